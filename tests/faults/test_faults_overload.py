"""More requests than can be answered: what can be is, in time; the rest is told at once; afterwards all is as before.

How much of the peak is left is for `make torture` to say, where nothing else runs; here the floor is low, and what must hold
on any machine is that everybody is told, nobody waits longer than they said, and nothing stays behind.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from tests.assets import fault_models
from tests.faults.load import Caller, Reply, closed_loop, for_seconds, open_loop, percentile, predict
from tests.test_server import Server, serving
from tests.versions import store

BATCH = 0.1  # seconds, of at most four rows
CAPACITY = 4 / BATCH  # requests a second
DEADLINE = 0.6  # seconds
SLACK = 3 * BATCH
SECONDS = 1.5
REQUEST = predict("steady", [1.0, 2.0], f"X-Request-Timeout: {DEADLINE}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("overload")
    store(folder / "models", fault_models.Steady, name="steady", max_batch_size=4)
    with serving(folder / "models", folder) as running:
        yield running


def answered(replies: Sequence[Reply]) -> list[Reply]:
    return [reply for reply in replies if reply.status == 200]


def check_told(server: Server, replies: Sequence[Reply]) -> None:
    """Every request has one outcome, which the server counted too, and who was refused knows when to return."""
    assert [reply.body for reply in replies if reply.status not in (200, 503, 504)] == []
    refused = [reply for reply in replies if reply.status == 503]
    assert refused
    for reply in refused:
        assert reply.json["code"] in ("deadline_unreachable", "queue_full")
        assert int(reply.headers["retry-after"]) >= math.ceil(int(reply.headers["retry-after-ms"]) / 1000)
    assert server.metric("maas_queue_requests") == server.metric("maas_running_requests") == 0


def check_calm(server: Server) -> None:
    """A second after the burst a lone request takes what it takes."""
    (replies,) = asyncio.run(closed_loop(server.port, REQUEST, 1, for_seconds(1.0)))
    assert {reply.status for reply in replies[-3:]} == {200}
    assert percentile(replies[-3:], 50) < BATCH + SLACK


def resident(server: Server) -> float:
    """Megabytes of the gateway."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4 / 1024


@pytest.mark.parametrize("times", [2, 10])
def test_overload_is_refused_and_the_model_goes_on(times: int, server: Server) -> None:
    """Open loop at 2 and 10 times what the model can do, by clients that never slow down."""
    assert server.post("/predict/steady", {"x": [1, 2]}).status_code == 200  # what a batch takes is known
    before, counted = resident(server), server.metric("maas_requests_total", model="steady")
    replies = asyncio.run(open_loop(server.port, REQUEST, times * CAPACITY, SECONDS))
    assert len(replies) > 0.7 * times * CAPACITY * SECONDS
    assert server.metric("maas_requests_total", model="steady") - counted == len(replies)
    check_told(server, replies)
    in_time = [reply for reply in answered(replies) if reply.seconds <= DEADLINE + SLACK]
    assert len(in_time) / SECONDS >= 0.5 * CAPACITY
    assert percentile([reply for reply in replies if reply.status == 503], 50) <= 0.15
    check_calm(server)
    assert resident(server) - before < 30


def test_retry_storm_is_told_and_passes(server: Server) -> None:
    """Two hundred clients try again at once whenever they are refused: the server is busy telling them, some are answered,
    and when they stop it is as it was."""
    before = resident(server)
    by_client = asyncio.run(closed_loop(server.port, REQUEST, 200, for_seconds(SECONDS)))
    replies = list(chain(*by_client))
    assert all(by_client)
    check_told(server, replies)
    assert answered(replies)
    check_calm(server)
    assert resident(server) - before < 30


def test_clients_that_return_when_they_are_told_are_all_answered(server: Server) -> None:
    """Sixty clients come at once, where a deadline leaves room for twenty: each gets its answer after few tries."""

    async def persist() -> list[Reply]:
        caller = Caller(server.port)
        replies = []
        while not replies or replies[-1].status != 200:
            replies.append(await caller.call(REQUEST))
            await asyncio.sleep(int(replies[-1].headers.get("retry-after-ms", "0")) / 1000)
        caller.close()
        return replies

    async def scenario() -> list[list[Reply]]:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            tasks = [group.create_task(persist()) for _ in range(60)]
        return [task.result() for task in tasks]

    tries = [len(replies) for replies in asyncio.run(scenario())]
    assert max(tries) > 1
    assert sum(tries) / len(tries) < 20
