"""New versions under load, good ones and bad: callers notice the good ones only, and only by the answer."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.assets import fault_models
from tests.faults.load import Reply, closed_loop, predict
from tests.test_server import Server, _wait_until, serving
from tests.versions import store

HIGHEST = {"model": {"versions": "highest"}}


def under_load(server: Server, change: Callable[[], None], clients: int = 8) -> list[list[Reply]]:
    """Every reply that the clients got while `change` ran, and a moment before and after."""
    is_over = threading.Event()
    request = predict("model", [1.0, 2.0])
    with ThreadPoolExecutor(1) as thread:
        calls = thread.submit(
            lambda: asyncio.run(closed_loop(server.port, request, clients, lambda: not is_over.is_set()))
        )
        try:
            before = server.metric("maas_requests_total", outcome="ok")
            while server.metric("maas_requests_total", outcome="ok") < before + 2 * clients:
                assert not calls.done()
            change()
            time.sleep(0.2)
        finally:
            is_over.set()
        return calls.result()


def test_twenty_reloads_under_load_cut_cleanly(tmp_path: Path) -> None:
    """Nobody fails; each answer is the one of the version and digest that it names; on a connection no old version comes
    after a new one."""
    repository = tmp_path / "models"
    store(repository, fault_models.Numbered, name="model", version="1")
    with serving(repository, tmp_path, models=HIGHEST) as server:

        def reload() -> None:
            for number in range(2, 22):
                store(repository, fault_models.Numbered, name="model", version=str(number))
                assert server.post("/admin/models/model/load", None).json()["state"] == "ready"

        by_client = under_load(server, reload)
    replies = list(itertools.chain(*by_client))
    assert {reply.status for reply in replies} == {200}
    for reply in replies:
        number = int(reply.headers["x-model-version"].removeprefix("model/"))
        assert reply.json == {"y": [1.0 * number, 2.0 * number]}
    assert len({(r.headers["x-model-version"], r.headers["x-model-digest"]) for r in replies}) == len(
        {reply.headers["x-model-digest"] for reply in replies}
    )
    for own in by_client:
        numbers = [int(reply.headers["x-model-version"].removeprefix("model/")) for reply in own]
        assert numbers == sorted(numbers)
        assert (numbers[0], numbers[-1]) == (1, 21)


BAD: dict[str, tuple[type, str]] = {
    "truncated": (fault_models.Double, "was altered"),
    "wrong shape": (fault_models.Misshapen, r"has shape \[\d, 1\]"),
    "failing golden": (fault_models.Wrong, "off its golden value by"),
    "nan": (fault_models.NotFinite, "off its golden value by nan"),
    "slower": (
        fault_models.Sluggish,
        r"one row takes it \d+ ms, over 5 times the 0\.[\d.e-]+ ms of version 1",
    ),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server whose model has one good version."""
    folder = tmp_path_factory.mktemp("guarded")
    store(folder / "models", name="model")
    with serving(folder / "models", folder, models=HIGHEST) as server:
        yield server, folder / "models"


@pytest.mark.parametrize("case", BAD)
def test_bad_version_is_refused_and_the_old_one_keeps_serving(
    case: str, guarded: tuple[Server, Path]
) -> None:
    """It says why, its processes are gone, nobody's request fails, and the old version answers all the time."""
    server, repository = guarded
    cls, reason = BAD[case]
    version = str(2 + list(BAD).index(case))
    stored = store(repository, cls, name="model", version=version)
    if case == "truncated":
        golden = stored.directory / "golden.safetensors"
        golden.write_bytes(golden.read_bytes()[:-7])
    told: dict[str, str] = {}

    def load() -> None:
        told.update(server.post(f"/admin/models/model/versions/{version}/load", None).json())

    replies = list(itertools.chain(*under_load(server, load)))
    assert told["state"] == "failed"
    assert {(r.status, r.headers["x-model-version"]) for r in replies} == {(200, "model/1")}
    assert re.search(reason, told["reason"]), told["reason"]
    assert told["reason"] == server.get("/v2/health/ready").json()["failed"][f"model/{version}"]
    _wait_until(lambda: len(server.model_processes()) == 1)
