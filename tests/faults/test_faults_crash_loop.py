"""Processes that die again and again: slower each time, then not at all, and only their model."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.assets import worker_models
from tests.faults.load import closed_loop, for_seconds, percentile, predict
from tests.test_server import Server, serving
from tests.versions import store
from tests.workers.test_instance import pair, run
from tests.workers.test_pool import pooled

from maas.errors import WorkerDied

SECONDS = 2.0  # of crashes


def test_crash_loop_costs_its_own_model_only(tmp_path: Path) -> None:
    """While one model's process dies over every request, it is started ever more slowly, and the other model answers as before."""
    store(tmp_path / "models", worker_models.Moody, name="moody")
    store(tmp_path / "models", name="double")
    with serving(tmp_path / "models", tmp_path) as server, ThreadPoolExecutor(1) as thread:
        is_over = threading.Event()
        request = predict("double", [1.0, 2.0])

        before = asyncio.run(slowest(server, request, 0.5))
        crashing = thread.submit(crash, server, is_over)
        during = asyncio.run(slowest(server, request, SECONDS))
        is_over.set()
        assert crashing.result() >= 2
        assert 2 <= server.metric("maas_instance_deaths_total", model="moody") <= 8
        assert server.metric("maas_instance_deaths_total", model="double") == 0
        assert during < 3 * before + 0.1


def crash(server: Server, is_over: threading.Event) -> int:
    """Deadly requests, each with an input of its own, so that quarantine does not stop them."""
    count = 0
    while not is_over.is_set():
        answer = server.post(
            "/predict/moody", {"x": [-2.0, float(count)]}, headers={"X-Request-Timeout": "1"}
        )
        assert answer.status_code in (500, 503, 504), answer.text
        count += 1
    return count


async def slowest(server: Server, request: bytes, seconds: float) -> float:
    """Seconds that 99 of 100 answers need, none of which may fail."""
    (replies,) = await closed_loop(server.port, request, 1, for_seconds(seconds))
    assert {reply.status for reply in replies} == {200}
    return percentile(replies, 99)


def test_version_whose_processes_die_without_an_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight fruitless lives in a row are the end: no process is started for it any more, and the reason says so."""
    monkeypatch.setattr("maas.workers.pool._FIRST_BACKOFF", 0.005)

    async def scenario() -> None:
        async with pooled(store(tmp_path, worker_models.Moody)) as (pool, register, _):
            while not pool.failed.done():
                await register.until(1)
                with pytest.raises(WorkerDied):
                    await register.attached[0].run([pair(-2.0)], 1)
                await register.until(0)
                ready = asyncio.ensure_future(register.until(1))
                await asyncio.wait([ready, pool.failed], return_when=asyncio.FIRST_COMPLETED)
                ready.cancel()
            assert pool.failed.result().message == (
                "its processes die without having answered anything; given up after 8 in a row"
            )
            assert pool.statistics().deaths == 8

    run(scenario())
