"""The registry: which versions are served, which of them a name means, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from maas.config import Configuration
from maas.errors import BadArtifact, ModelNotFound
from maas.models.live import VersionState
from maas.models.manifest import MANIFEST
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion

Seal = Callable[..., StoredVersion]


@dataclass
class Live:
    """Stands in for a live version: it never loads."""

    name: str
    version: str
    state: VersionState = VersionState.LOADING


def make_live(stored: StoredVersion) -> Any:
    return Live(stored.manifest.name, stored.manifest.version)


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
    # The highest that was asked for is the default, and is not replaced by another behind the caller's back.
    with pytest.raises(
        ModelNotFound, match=r"model 'model/2' cannot be served: the repository has no version '2'"
    ):
        found.resolve("model")
    assert found.resolve("model", "1").version == "1"


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
    for version in (None, "2"):
        with pytest.raises(ModelNotFound, match=r"model 'model/2' cannot be served: .+"):
            found.resolve("model", version)


def test_a_version_that_cannot_be_made_live_is_broken(seal: Seal, repository: Repository) -> None:
    """What refuses to be described to its process is listed like a broken manifest."""
    seal("model", "1")

    def refuse(stored: StoredVersion) -> Any:
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
