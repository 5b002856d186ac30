"""The registry: which versions are live, and which of them a name means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maas.config import Configuration, ModelOptions
from maas.errors import BadArtifact, ModelNotFound
from maas.models.live import LiveVersion, VersionState
from maas.models.repository import Repository, StoredVersion
from maas.types import clip, highest_version


@dataclass(frozen=True, slots=True)
class BrokenVersion:
    """A version that was to be served and whose manifest cannot be read, or that is not there."""

    name: str
    version: str
    reason: str


class Registry:
    """Versions by model name. What is served is decided once, by the repository and the configuration; each version
    then loads, runs and drains on its own."""

    def __init__(
        self,
        repository: Repository,
        configuration: Configuration,
        make_live: Callable[[StoredVersion], LiveVersion],
    ) -> None:
        self.broken: list[BrokenVersion] = []
        self._models: dict[str, dict[str, LiveVersion]] = {}
        self._defaults: dict[str, LiveVersion] = {}
        for name in sorted({*repository.models(), *configuration.models}):
            self._add(name, repository, configuration.options_of(name), make_live)

    def resolve(self, name: str, version: str | None = None) -> LiveVersion:
        """The live version that `name`, or `name` and `version`, mean. Raises `ModelNotFound` where there is none."""
        found = self._defaults.get(name) if version is None else self._models.get(name, {}).get(version)
        if found is None:
            raise ModelNotFound(self._explain_missing(name, version))
        return found

    def versions(self) -> list[LiveVersion]:
        """All live versions, by name and then in the order of the repository."""
        return [live for versions in self._models.values() for live in versions.values()]

    def versions_of(self, name: str) -> list[LiveVersion]:
        return list(self._models.get(name, {}).values())

    def is_default(self, live: LiveVersion) -> bool:
        return self._defaults.get(live.name) is live

    @property
    def has_started(self) -> bool:
        """Whether every version has loaded or failed to."""
        return all(live.state is not VersionState.LOADING for live in self.versions())

    async def serve(self) -> None:
        """Run every version until each is drained."""
        async with asyncio.TaskGroup() as group:
            for live in self.versions():
                group.create_task(live.serve())

    async def drain(self) -> None:
        """Return when every version has answered what it accepted."""
        await asyncio.gather(*(live.drain() for live in self.versions()))

    def _add(
        self,
        name: str,
        repository: Repository,
        options: ModelOptions,
        make_live: Callable[[StoredVersion], LiveVersion],
    ) -> None:
        versions = _choose(repository.versions(name), options)
        if not versions and options.versions != ():
            self.broken.append(
                BrokenVersion(name, "any", "the configuration names it, but there is no version of it")
            )
        live = {}
        for version in versions:
            try:
                live[version] = make_live(repository.read(name, version))
            except (BadArtifact, ModelNotFound) as error:
                self.broken.append(BrokenVersion(name, version, error.message))
        self._models[name] = live
        default = options.default or highest_version(versions)
        if default in live:
            self._defaults[name] = live[default]

    def _explain_missing(self, name: str, version: str | None) -> str:
        for broken in self.broken:
            if broken.name == name and version in (None, broken.version):
                return f"model '{name}/{broken.version}' cannot be served: {broken.reason}"
        known = ", ".join(self._models.get(name, {}))
        if not known:
            return f"there is no model {clip(name)!r}"
        wanted = "default version" if version is None else f"version {clip(version)!r}"
        return f"model {name!r} has no {wanted}; it has {known}"


def _choose(stored: Sequence[str], options: ModelOptions) -> list[str]:
    """The versions to serve: those that are listed, all that are stored, or the highest; and the default in any case."""
    if isinstance(options.versions, tuple):
        return list(dict.fromkeys(options.versions))
    if options.versions == "all":
        return list(dict.fromkeys([*stored, *filter(None, [options.default])]))
    highest = options.default or highest_version(list(stored))
    return [highest] if highest is not None else []
