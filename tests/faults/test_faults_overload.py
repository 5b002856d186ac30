"""More requests than can be answered: what can be is, in time; the rest is told at once; afterwards all is as before."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.assets import fault_models
from tests.faults.load import Reply, closed_loop, for_seconds, open_loop, percentile, predict
from tests.test_server import Server, serving
from tests.versions import store

CAPACITY = 100  # requests a second: four rows every forty milliseconds
DEADLINE = 0.3  # seconds
BATCH = 0.04
SECONDS = 2.0
REQUEST = predict("steady", [1.0, 2.0], f"X-Request-Timeout: {DEADLINE}")
LEAST = 0.75  # of the peak that must be left; the torture suite asks for 0.9 where nothing else runs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("overload")
    store(folder / "models", fault_models.Steady, name="steady", max_batch_size=4)
    with serving(folder / "models", folder) as running:
        yield running


@pytest.fixture(scope="module")
def peak(server: Server) -> float:
    """Answers a second where sixteen clients always have a request out."""
    replies = sum(asyncio.run(closed_loop(server.port, REQUEST, 16, for_seconds(SECONDS))), [])
    return len(answered(replies)) / SECONDS


def answered(replies: Sequence[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.status == 200]


def check(replies: Sequence[Reply], peak: float) -> None:
    """Every request was answered; as many as ever were answered in time; the others were told when to return."""
    assert {reply.status for reply in replies} <= {200, 503, 504}
    good = [reply for reply in answered(replies) if reply.seconds <= DEADLINE + 3 * BATCH]
    assert len(good) / SECONDS >= LEAST * peak
    assert percentile(answered(replies), 99) <= DEADLINE + 3 * BATCH
    refused = [reply for reply in replies if reply.status == 503]
    assert refused
    for reply in refused:
        assert reply.json["code"] in ("deadline_unreachable", "queue_full")
        assert int(reply.headers["retry-after"]) >= math.ceil(int(reply.headers["retry-after-ms"]) / 1000)
    assert percentile(refused, 50) <= 0.15


def check_calm(server: Server) -> None:
    """A second after the burst a lone request takes what it took before, and nothing is held."""
    (replies,) = asyncio.run(closed_loop(server.port, REQUEST, 1, for_seconds(1.0)))
    assert {reply.status for reply in replies[-5:]} == {200}
    assert percentile(replies[-5:], 50) < 3 * BATCH
    assert server.metric("maas_queue_requests") == server.metric("maas_running_requests") == 0


def resident(server: Server) -> int:
    """Megabytes of the gateway."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4 >> 10


@pytest.mark.parametrize("times", [2, 10])
def test_overload_leaves_the_goodput_of_the_peak(times: int, server: Server, peak: float) -> None:
    """Open loop at 2 and 10 times what the model can do, by clients that never slow down."""
    before = resident(server)
    replies = asyncio.run(open_loop(server.port, REQUEST, times * CAPACITY, SECONDS))
    assert len(replies) > 0.8 * times * CAPACITY * SECONDS
    check(replies, peak)
    check_calm(server)
    assert resident(server) - before < 50


def test_retry_storm_leaves_the_goodput_of_the_peak(server: Server, peak: float) -> None:
    """Three hundred clients that try again at once whenever they are refused."""
    by_client = asyncio.run(closed_loop(server.port, REQUEST, 300, for_seconds(SECONDS)))
    replies = sum(by_client, [])
    assert len(replies) > 2 * CAPACITY * SECONDS
    check(replies, peak)
    check_calm(server)


def test_clients_that_wait_as_they_are_told_come_spread_out(server: Server) -> None:
    """Refused together, they are told different times to return, each later than the one before it in the queue."""
    wave = [predict("steady", [1.0, float(n)], "X-Request-Timeout: 20") for n in range(300)]
    hurried = predict("steady", [1.0, 2.0], f"X-Request-Timeout: {DEADLINE}")

    async def scenario() -> list[list[list[Reply]]]:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for request in wave:
                tasks.append(group.create_task(closed_loop(server.port, request, 1, once())))
            await asyncio.sleep(0.3)
            tasks.append(group.create_task(closed_loop(server.port, hurried, 1, once())))
            await asyncio.sleep(1.0)
            tasks.append(group.create_task(closed_loop(server.port, hurried, 1, once())))
        return [task.result() for task in tasks]

    *_, ((early,),), ((late,),) = asyncio.run(scenario())
    assert (early.status, late.status) == (503, 503)
    assert int(early.headers["retry-after-ms"]) > int(late.headers["retry-after-ms"])


def once() -> object:
    todo = [True]
    return lambda: bool(todo and todo.pop())
