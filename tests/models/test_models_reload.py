"""Versions that come and go while others answer: loaded beside the old, swapped when ready, the old drained."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.models.test_models_registry import Live, registry

from maas.errors import ModelNotFound
from maas.models.live import VersionState
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion

Seal = Callable[..., StoredVersion]
READY, FAILED = VersionState.READY, VersionState.FAILED


@asynccontextmanager
async def running(repository: Repository, **models: dict[str, Any]) -> AsyncIterator[Registry]:
    found = registry(repository, **models)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(found.serve())
        await settle()
        yield found
        await found.drain()


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


def fake(found: Registry, version: str, name: str = "model") -> Live:
    live = found.resolve(name, version)
    assert isinstance(live, Live)
    return live


def versions(found: Registry) -> list[str]:
    return sorted(live.version for live in found.versions())


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


@pytest.mark.parametrize(("policy", "left"), [("highest", ["2"]), ("all", ["1", "2"])])
def test_new_version_takes_over_when_it_is_ready(
    policy: str, left: list[str], seal: Seal, repository: Repository
) -> None:
    """The old one answers until then; afterwards it is drained, unless all versions are wanted."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository, model={"versions": policy}) as found:
            old = fake(found, "1")
            old.enter(READY)
            await settle()
            seal("model", "2")
            found.refresh()
            await settle()
            assert found.resolve("model") is old
            assert found.has_started
            fake(found, "2").enter(READY)
            await settle()
            assert found.resolve("model").version == "2"
            assert versions(found) == left
            assert old.drained.is_set() == (policy == "highest")

    run(scenario)


def test_new_version_that_fails_leaves_the_old_one_in_its_place(seal: Seal, repository: Repository) -> None:
    """The old version goes on, and the failed one is there to say why."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository, model={"versions": "highest"}) as found:
            fake(found, "1").enter(READY)
            seal("model", "2")
            found.refresh()
            fake(found, "2").enter(FAILED)
            await settle()
            assert found.resolve("model").version == "1"
            assert found.resolve("model", "2").state is FAILED
            found.refresh()
            await settle()
            assert versions(found) == ["1", "2"]

    run(scenario)


def test_version_that_failed_is_tried_again_when_it_is_asked_for(seal: Seal, repository: Repository) -> None:
    """`load` gives a failed version a new life; one that is live is left as it is."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository) as found:
            failed = fake(found, "1")
            failed.enter(FAILED)
            again = found.load("model")
            assert again is not failed
            assert failed.drained.is_set()
            assert found.load("model", "1") is again
            await settle()
            assert again.has_served  # type: ignore[attr-defined]

    run(scenario)


def test_unloaded_version_stays_away_until_it_is_loaded(seal: Seal, repository: Repository) -> None:
    """What was unloaded by name does not come back at the next look at the repository."""
    seal("model", "1")
    seal("model", "2")

    async def scenario() -> None:
        async with running(repository) as found:
            for version in ("1", "2"):
                fake(found, version).enter(READY)
            gone = fake(found, "2")
            assert found.unload("model", "2") == [gone]
            assert gone.drained.is_set()
            found.refresh()
            assert versions(found) == ["1"]
            with pytest.raises(ModelNotFound):
                found.unload("model", "2")
            found.load("model", "2")
            assert versions(found) == ["1", "2"]
            assert len(found.unload("model")) == 2
            with pytest.raises(ModelNotFound):
                found.resolve("model")

    run(scenario)


def test_older_version_can_be_loaded_beside_the_highest(seal: Seal, repository: Repository) -> None:
    """What is asked for by name is served though the configuration would not have it, and is not retired for it."""
    for version in ("1", "2"):
        seal("model", version)

    async def scenario() -> None:
        async with running(repository, model={"versions": "highest"}) as found:
            fake(found, "2").enter(READY)
            found.load("model", "1")
            fake(found, "1").enter(READY)
            await settle()
            found.refresh()
            await settle()
            assert versions(found) == ["1", "2"]
            assert found.resolve("model").version == "2"
            with pytest.raises(ModelNotFound):
                found.load("model", "3")

    run(scenario)


def test_version_that_is_deleted_is_drained(seal: Seal, repository: Repository) -> None:
    """A folder that is gone at the next look is served no more; other models do not notice."""
    seal("other", "1")
    shutil.rmtree(seal("model", "1").directory)
    seal("model", "2")

    async def scenario() -> None:
        async with running(repository) as found:
            gone = fake(found, "2")
            gone.enter(READY)
            shutil.rmtree(repository.root / "model" / "2")
            found.refresh()
            assert gone.drained.is_set()
            assert versions(found) == ["1"]

    run(scenario)


def test_new_model_is_picked_up(seal: Seal, repository: Repository) -> None:
    """A first version of a name that was not there is loaded like any other."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository) as found:
            seal("other", "1")
            found.refresh()
            await settle()
            assert fake(found, "1", "other").has_served

    run(scenario)
