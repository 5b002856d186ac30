"""The registry: which versions are served, which of them a name means, and what is said of those that are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from maas.config import Configuration, ModelOptions
from maas.errors import BadArtifact, ModelNotFound, ModelNotReady
from maas.models.live import LiveOptions, VersionState
from maas.models.manifest import MANIFEST
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion
from maas.types import CurvePoint, version_order

Seal = Callable[..., StoredVersion]


@dataclass(eq=False)
class Live:
    """Stands in for a live version: it loads, or fails, when it is told to."""

    stored: StoredVersion
    made_for: LiveOptions
    reason: str = ""
    body_bytes: int = 0
    state: VersionState = VersionState.LOADING
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    has_served: bool = False
    curve: Sequence[CurvePoint] = (CurvePoint(1, 1, 0.0),)

    @property
    def name(self) -> str:
        return self.stored.manifest.name

    @property
    def version(self) -> str:
        return self.stored.manifest.version

    @property
    def label(self) -> str:
        return self.stored.label

    @property
    def options(self) -> ModelOptions:
        return self.made_for.model

    def limit_bodies(self, most: int) -> None:
        self.body_bytes = most

    def is_made_for(self, options: LiveOptions) -> bool:
        return self.options.queue_size == options.model.queue_size

    @property
    def order(self) -> tuple[int, ...] | None:
        return version_order(self.version)

    def enter(self, state: VersionState) -> None:
        self.state = state
        self.settled.set()

    async def serve(self) -> None:
        self.has_served = True
        await self.drained.wait()

    def begin_drain(self) -> None:
        self.enter(VersionState.DRAINING)
        self.drained.set()

    async def drain(self) -> None:
        self.begin_drain()


def make_live(stored: StoredVersion, options: LiveOptions) -> Any:
    return Live(stored, options)


def registry(repository: Repository, **models: dict[str, Any]) -> Registry:
    return Registry(repository, Configuration.model_validate({"models": models}), make_live)


def served(found: Registry, name: str = "model") -> list[str]:
    return [live.version for live in found.versions_of(name)]


def test_every_version_of_every_model_is_served(seal: Seal, repository: Repository) -> None:
    """Without any configuration all versions stand side by side, and the highest answers."""
    for version in ("1", "2", "10", "beta"):
        seal("model", version)
    seal("other", "3")
    found = registry(repository)
    assert served(found) == ["1", "10", "2", "beta"]
    assert [live.name for live in found.versions()] == ["model"] * 4 + ["other"]
    assert found.resolve("model").version == "10"
    assert found.resolve("model", "beta").version == "beta"
    assert [live.version for live in found.versions() if found.is_default(live)] == ["10", "3"]


@pytest.mark.parametrize(
    ("options", "versions", "default"),
    [
        ({"versions": "all"}, ["1", "10", "2", "beta"], "10"),
        ({"versions": "highest"}, ["10"], "10"),
        ({"versions": ["1", "2"]}, ["1", "2"], "2"),
        ({"versions": ["2", 2, "1"]}, ["2", "1"], "2"),
        ({"versions": ["beta"]}, ["beta"], None),
        ({"versions": []}, [], None),
        ({"default": "1"}, ["1", "10", "2", "beta"], "1"),
        ({"default": "beta"}, ["1", "10", "2", "beta"], "beta"),
        ({"versions": "highest", "default": "2"}, ["2"], "2"),
        ({"versions": ["1", "2"], "default": "1"}, ["1", "2"], "1"),
        ({"default": "9"}, ["1", "10", "2", "beta"], None),
    ],
    ids=str,
)
def test_the_configuration_chooses(
    seal: Seal, repository: Repository, options: dict[str, Any], versions: list[str], default: str | None
) -> None:
    """All, the highest or a list of versions are served; the default is the highest of them unless it is named."""
    for version in ("1", "2", "10", "beta"):
        seal("model", version)
    found = registry(repository, model=options)
    assert served(found) == versions
    if default is None:
        with pytest.raises(ModelNotFound):
            found.resolve("model")
    else:
        assert found.resolve("model").version == default


def test_a_version_that_is_listed_but_not_there_is_broken(seal: Seal, repository: Repository) -> None:
    """What was asked for and is missing is listed with its reason; the others are served."""
    seal("model", "1")
    found = registry(repository, model={"versions": ["1", "2"]})
    assert served(found) == ["1"]
    (broken,) = found.broken
    assert (broken.name, broken.version) == ("model", "2")
    assert "the repository has no version '2' of model 'model'" in broken.reason
    with pytest.raises(
        ModelNotFound, match=r"model 'model/2' cannot be served: the repository has no version '2'"
    ):
        found.resolve("model", "2")
    assert found.resolve("model").version == "1"


def test_failed_or_loading_version_does_not_stand_in_the_way_of_an_older_one(
    seal: Seal, repository: Repository
) -> None:
    """Where no version is named, the highest that is ready answers; a pinned one is never replaced by another."""
    for version in ("1", "2", "3"):
        seal("model", version)
    found = registry(repository)
    states = [VersionState.READY, VersionState.LOADING, VersionState.FAILED]
    for live, state in zip(found.versions(), states, strict=True):
        live.state = state
    assert found.resolve("model").version == "1"
    found.resolve("model", "2").state = VersionState.READY
    assert found.resolve("model").version == "2"
    pinned = registry(repository, model={"default": "3"})
    pinned.resolve("model", "3").state = VersionState.FAILED
    assert pinned.resolve("model").version == "3"


@pytest.mark.parametrize(
    "damage", [b"", b"a: [", b"created: 2024-13-45", b"[" * 3000, b"\xff"], ids=lambda data: repr(data)[:20]
)
def test_a_broken_manifest_takes_only_its_own_version_down(
    seal: Seal, repository: Repository, damage: bytes
) -> None:
    """A version whose manifest cannot be read is listed with its reason, and keeps no other from being served."""
    seal("model", "1")
    (seal("model", "2").directory / MANIFEST).write_bytes(damage)
    seal("other", "1")
    found = registry(repository)
    assert [(live.name, live.version) for live in found.versions()] == [("model", "1"), ("other", "1")]
    assert [(broken.name, broken.version) for broken in found.broken] == [("model", "2")]
    with pytest.raises(ModelNotReady, match=r"model 'model/2' cannot be served: .+"):
        found.resolve("model", "2")
    assert found.resolve("model").version == "1"


def test_a_version_that_cannot_be_made_live_is_broken(seal: Seal, repository: Repository) -> None:
    """What refuses to be described to its process is listed like a broken manifest."""
    seal("model", "1")

    def refuse(stored: StoredVersion, options: LiveOptions) -> Any:
        raise BadArtifact("not like this")

    found = Registry(repository, Configuration(), refuse)
    assert [broken.reason for broken in found.broken] == ["not like this"]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("other", None, "^there is no model 'other'$"),
        ("other", "1", "^there is no model 'other'$"),
        ("Model", None, "^there is no model 'Model'$"),
        ("../model", None, r"^there is no model '\.\./model'$"),
        ("model", "3", "^model 'model' has no version '3'; it has 1, 2$"),
        ("model", "1/", "^model 'model' has no version '1/'"),
    ],
)
def test_what_is_not_served_is_not_found(
    seal: Seal, repository: Repository, name: str, version: str | None, message: str
) -> None:
    """An unknown model or version is told apart, with the versions there are."""
    seal("model", "1")
    seal("model", "2")
    with pytest.raises(ModelNotFound, match=message):
        registry(repository).resolve(name, version)


def test_a_long_name_is_cut_in_the_message(repository: Repository) -> None:
    """A name of 10 KB is not repeated to its sender."""
    with pytest.raises(ModelNotFound) as caught:
        registry(repository).resolve("x" * 10_000)
    assert len(caught.value.message) < 200


def test_the_registry_has_started_when_nothing_loads_any_more(seal: Seal, repository: Repository) -> None:
    """Started means that each version has loaded or failed to; an empty registry has."""
    assert registry(repository).has_started
    seal("model", "1")
    seal("model", "2")
    found = registry(repository)
    for live, state in zip(found.versions(), (VersionState.READY, VersionState.FAILED), strict=True):
        assert not found.has_started
        live.state = state
    assert found.has_started
