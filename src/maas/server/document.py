"""The OpenAPI document of a repository, as a server that serves it would give it, with nothing started and no engine loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maas.config import Configuration
from maas.errors import BadArtifact
from maas.models.live import Example, LiveVersion, VersionState
from maas.runtimes.golden import example_of, load_golden
from maas.server.parts import build
from maas.workers.child import check_hashes
from maas.workers.launcher import Launcher


@dataclass(frozen=True, slots=True)
class RepositoryDocument:
    """`document`, and the reason of each version (`NAME/VERSION`, or `NAME`) that it leaves out, since none could serve it."""

    document: dict[str, Any]
    left_out: dict[str, str]


async def describe_repository(
    configuration: Configuration, name: str | None = None, version: str | None = None
) -> RepositoryDocument:
    """The document of every version that `configuration` serves, or of those of one model, or of one version.

    Each is held against its hashes first. What of a version only its engine would find is not found here. Raises
    `ModelNotFound` where there is no such version, `BadArtifact` where the named ones cannot be read.
    """
    parts = build(configuration, Launcher())  # which launches nothing until it is told to
    registry = parts.registry
    left_out = {
        each.label: each.reason
        for each in registry.broken
        if name in (None, each.name) and version in (None, each.version)
    }
    if name is not None and not left_out:
        registry.resolve(name, version)
    for live in registry.versions():
        if name in (None, live.name) and version in (None, live.version):
            try:
                live.example = _example(live)
            except BadArtifact as error:
                left_out[live.label] = error.message
            else:
                live.state = VersionState.READY
    if name is not None and left_out and not any(map(_is_ready, registry.versions())):
        label, reason = next(iter(left_out.items()))
        raise BadArtifact(f"{label}: {reason}")
    return RepositoryDocument(parts.app.openapi(), left_out)


def _is_ready(live: LiveVersion) -> bool:
    return live.state is VersionState.READY


def _example(live: LiveVersion) -> Example:
    """One row of the version's own golden sample; raises `BadArtifact` where its files are not what was published."""
    stored = live.stored
    check_hashes(stored.directory, stored.manifest.files)
    samples = load_golden(stored.directory, live.signature, allow_non_finite=stored.manifest.allow_non_finite)
    return Example(*example_of(live.signature, samples[0]))
