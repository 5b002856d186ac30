"""Versions that come and go while others answer, and options that change: loaded beside the old, swapped when ready, the
old drained."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.models.test_models_registry import Live, registry

from maas.config import Configuration
from maas.errors import BadArtifact, ModelNotFound
from maas.models.live import VersionState
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion
from maas.types import CurvePoint

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


@pytest.mark.parametrize(
    ("old", "new", "options", "is_refused"),
    [
        (0.010, 0.100, {}, True),
        (0.010, 0.045, {}, False),
        (0.010, 0.045, {"max_slowdown": 2}, True),
        (0.010, 0.100, {"max_slowdown": 0}, False),
        (0.0001, 0.009, {}, False),  # ninety times as slow, and nobody would notice
        (0.010, 0.100, {"default": "1"}, False),  # it replaces nobody
    ],
)
def test_much_slower_version_does_not_take_over(
    old: float, new: float, options: dict[str, Any], is_refused: bool, seal: Seal, repository: Repository
) -> None:
    """A newer version that takes over `max_slowdown` times as long for one row is objected to, with both numbers."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository, model=options) as found:
            fake(found, "1").curve = [CurvePoint(1, 1, old)]
            fake(found, "1").enter(READY)
            await settle()
            seal("model", "2")
            found.refresh()
            fresh = fake(found, "2")
            fresh.curve = [CurvePoint(1, 1, new)]
            objection = found.objection(fresh)  # type: ignore[arg-type]
            assert bool(objection) == is_refused
            if is_refused:
                assert f"{new * 1e3:.3g} ms" in objection
                assert f"{old * 1e3:.3g} ms" in objection

    run(scenario)


MEASURED = [
    CurvePoint(1, 100, 0.100),
    CurvePoint(8, 100, 0.500),
    CurvePoint(1, 200, 0.200),
    CurvePoint(1, 50, 0.060),
]


@pytest.mark.parametrize(
    ("elements", "allowed"),
    [(100, 0.200), (150, 0.300), (200, 0.400), (75, 0.160), (300, 0.600), (10, 0.120)],
    ids=["the same", "between", "another", "below", "longer", "shorter"],
)
def test_slowness_is_judged_by_rows_of_the_same_length(
    elements: int, allowed: float, seal: Seal, repository: Repository
) -> None:
    """A golden sample that is ten times as long takes its time by right; one that is short is no excuse."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository, model={"max_slowdown": 2}) as found:
            fake(found, "1").curve = MEASURED
            fake(found, "1").enter(READY)
            await settle()
            seal("model", "2")
            found.refresh()
            fresh = fake(found, "2")
            for seconds, is_refused in ((allowed - 0.001, False), (allowed + 0.001, True)):
                fresh.curve = [CurvePoint(1, elements, seconds), CurvePoint(1, 7, 9.0)]
                assert bool(found.objection(fresh)) == is_refused  # type: ignore[arg-type]

    run(scenario)


def test_only_what_would_take_over_is_held_against_who_serves(seal: Seal, repository: Repository) -> None:
    """Neither a version that is loaded at the start, nor an older one, nor one beside which none is ready."""
    for version in ("1", "2"):
        seal("model", version)

    async def scenario() -> None:
        async with running(repository) as found:
            fake(found, "1").enter(READY)
            fake(found, "2").curve = [CurvePoint(1, 1, 1.0)]
            assert found.objection(fake(found, "2")) == ""  # type: ignore[arg-type]
            fake(found, "2").enter(READY)
            await settle()
            seal("model", "0.9")
            found.refresh()
            older = fake(found, "0.9")
            older.curve = [CurvePoint(1, 1, 60.0)]
            assert found.objection(older) == ""  # type: ignore[arg-type]
            older.enter(READY)
            for version in ("1", "2"):
                found.unload("model", version)
            fake(found, "0.9").state = FAILED
            assert found.objection(older) == ""  # type: ignore[arg-type]

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


@pytest.mark.parametrize(
    ("options", "served", "meant"),
    [
        ({}, ["1", "2", "10"], "10"),
        ({"versions": "highest"}, ["10"], "10"),
        ({"versions": ["2", "beta"], "default": "beta"}, ["2", "beta"], "beta"),
        ({"versions": ["1", "2"]}, ["1", "2"], "2"),
        ({"versions": []}, ["10"], "10"),
    ],
    ids=str,
)
def test_loading_a_model_brings_back_what_is_configured(
    seal: Seal, repository: Repository, options: dict[str, object], served: list[str], meant: str
) -> None:
    """After it was unloaded it is served as before; where nothing is configured its highest version is."""
    for version in ("1", "2", "10", "beta"):
        seal("model", version)

    async def scenario() -> None:
        async with running(repository, model=options) as found:
            everything = {"1", "2", "10", "beta"}
            for version in everything.intersection(versions(found)):
                fake(found, version).enter(READY)
            before = set(versions(found))
            if before:
                found.unload("model")
            assert versions(found) == []
            live = found.load("model")
            assert live.version == meant
            assert set(served) <= set(versions(found)) == (before or set(served))

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


# -- options that change


def configured(**models: dict[str, Any]) -> Configuration:
    return Configuration.model_validate({"models": models, "limits": {"body_bytes": 5000}})


def test_version_with_other_options_takes_its_own_place_when_it_is_ready(
    seal: Seal, repository: Repository
) -> None:
    """The same version made anew is loaded beside the old one, which answers until then; what has not changed is kept."""
    seal("model", "1")
    seal("other", "1")

    async def scenario() -> None:
        async with running(repository) as found:
            old, other = fake(found, "1"), fake(found, "1", "other")
            old.enter(READY)
            other.enter(READY)
            found.reconfigure(configured(model={"queue_size": 7}))
            await settle()
            assert fake(found, "1") is old
            assert found.has_started
            successor = fresh_of(found, old)
            assert successor.has_served
            successor.enter(READY)
            await settle()
            assert fake(found, "1") is successor
            assert successor.options.queue_size == 7
            assert old.drained.is_set()
            assert fake(found, "1", "other") is other
            assert not other.drained.is_set()
            assert (successor.body_bytes, other.body_bytes) == (0, 5000)

    run(scenario)


def test_version_that_fails_with_its_new_options_keeps_the_old_ones(
    seal: Seal, repository: Repository
) -> None:
    """It goes on as it was and says why; the next reload tries again, and going back clears the reason."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository) as found:
            old = fake(found, "1")
            old.enter(READY)
            found.reconfigure(configured(model={"queue_size": 7}))
            failed = fresh_of(found, old)
            failed.reason = "no such device"
            failed.enter(FAILED)
            await settle()
            assert fake(found, "1") is old
            assert old.state is READY
            assert old.reason == "it keeps its former options; with the new ones: no such device"
            assert failed.drained.is_set()
            found.refresh()
            assert found._successors.by_label == {}
            found.reconfigure(configured(model={"queue_size": 8}))
            assert fresh_of(found, old).options.queue_size == 8
            found.reconfigure(configured())
            assert found._successors.by_label == {}
            assert old.reason == ""

    run(scenario)


def test_successor_of_a_past_configuration_is_given_up(seal: Seal, repository: Repository) -> None:
    """Of two reloads in a row the second holds, and what the first began to load ends; so it does with its version."""
    seal("model", "1")

    async def scenario() -> None:
        async with running(repository) as found:
            old = fake(found, "1")
            old.enter(READY)
            found.reconfigure(configured(model={"queue_size": 7}))
            first = fresh_of(found, old)
            found.reconfigure(configured(model={"queue_size": 7, "default": "1"}))
            assert fresh_of(found, old) is first
            found.reconfigure(configured(model={"queue_size": 8}))
            second = fresh_of(found, old)
            assert first.drained.is_set()
            assert second is not first
            found.unload("model")
            assert second.drained.is_set()
            await settle()
            with pytest.raises(ModelNotFound):
                found.resolve("model")

    run(scenario)


def test_version_that_does_not_answer_yet_is_made_anew_at_once(seal: Seal, repository: Repository) -> None:
    """One that loads, or failed, has no caller to wait for."""
    seal("model", "1")
    seal("model", "2")

    async def scenario() -> None:
        async with running(repository) as found:
            loading, failed = fake(found, "1"), fake(found, "2")
            failed.enter(FAILED)
            found.reconfigure(configured(model={"queue_size": 7}))
            assert loading.drained.is_set()
            assert failed.drained.is_set()
            assert [fake(found, each).options.queue_size for each in "12"] == [7, 7]
            assert found._successors.by_label == {}

    run(scenario)


@pytest.mark.parametrize(
    ("before", "after", "loaded", "left"),
    [
        ("all", "highest", [], ["2"]),
        ("all", [], [], []),
        ("all", ["1"], [], ["1"]),
        (["1"], ["2"], ["2"], ["2"]),
        ([], "all", ["1", "2"], ["1", "2"]),
        (["1"], ["3"], [], ["1"]),
    ],
)
def test_versions_follow_their_list(
    before: Any, after: Any, loaded: list[str], left: list[str], seal: Seal, repository: Repository
) -> None:
    """What is listed anew is loaded; what is delisted leaves, but not before what is wanted in its place is ready."""
    seal("model", "1")
    seal("model", "2")

    async def scenario() -> None:
        async with running(repository, model={"versions": before}) as found:
            old = {live.version for live in found.versions()}
            for version in old:
                fake(found, version).enter(READY)
            found.reconfigure(configured(model={"versions": after}))
            if loaded:
                assert old <= set(versions(found))
            for version in loaded:
                fake(found, version).enter(READY)
            await settle()
            assert versions(found) == left

    run(scenario)


def test_configuration_holds_though_the_repository_cannot_be_read(
    seal: Seal, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that is away for a moment is told of, and costs no version and no option."""
    seal("model", "1")

    def unreadable(*_: object) -> list[str]:
        raise BadArtifact("it is not mounted")

    async def scenario() -> None:
        async with running(repository) as found:
            old = fake(found, "1")
            old.enter(READY)
            monkeypatch.setattr(repository, "models", unreadable)
            monkeypatch.setattr(repository, "versions", unreadable)
            with pytest.raises(BadArtifact):
                found.reconfigure(configured(model={"queue_size": 7}))
            await settle()
            fresh_of(found, old).enter(READY)
            await settle()
            assert fake(found, "1").options.queue_size == 7

    run(scenario)


def test_drain_waits_for_versions_that_were_retired(seal: Seal, repository: Repository) -> None:
    """What an old version has accepted is answered before the server ends, though nobody finds it any more."""
    seal("model", "1")
    seal("model", "2")

    async def scenario() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            found = registry(repository)
            group.create_task(found.serve())
            await settle()
            retired = fake(found, "1")
            retired.drain = retired.drained.wait  # type: ignore[method-assign,assignment]
            retired.begin_drain = lambda: retired.enter(VersionState.DRAINING)  # type: ignore[method-assign]
            found.unload("model", "1")
            draining = group.create_task(found.drain())
            await settle()
            assert not draining.done()
            retired.drained.set()

    run(scenario)


def fresh_of(found: Registry, old: Live) -> Live:
    """The successor that is loading beside `old`."""
    successor = found._successors.by_label[old.label]
    assert isinstance(successor, Live)
    return successor
