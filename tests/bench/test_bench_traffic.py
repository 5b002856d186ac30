"""Traffic against real servers: what is counted, and that a stall is charged for all that were due in it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.bench.servers import Answer, Headers, answering, ok, reply

from maas.bench.clients import send
from maas.bench.load import LOST, NO_CONNECTION, TIMEOUT, UNREADABLE, Load, Request
from maas.bench.meters import ServerStatistics
from maas.bench.report import Point
from maas.bench.traffic import drive

ASK = (Request(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", rows=3),)


def load(port: int, connections: int = 4, **values: float) -> Load:
    return replace(Load("127.0.0.1", port, ASK, connections, seconds=0.5, warm_up=0.1), **values)  # type: ignore[arg-type]


def always(content: bytes, delay: float = 0.0) -> Answer:
    async def answer(path: str, headers: Headers, body: bytes) -> bytes:
        assert body == b"{}"
        await asyncio.sleep(delay)
        return content

    return answer


def test_a_closed_loop_asks_as_fast_as_it_is_answered() -> None:
    """Four connections and 20 ms an answer: at most 200 a second, each counted, with its rows."""
    with answering(always(ok(), 0.02)) as service:
        tally = send(load(service.port))
    assert tally.errors == {}
    assert tally.opened == 4
    assert 20 < tally.requests <= 104
    assert tally.rows == 3 * tally.completed
    assert tally.latencies.count == tally.outcomes["200"] == tally.requests
    assert tally.latencies.percentile(1) >= 0.02


def test_an_open_loop_asks_when_it_is_due_whatever_the_answers() -> None:
    """400 a second at 50 ms an answer take some 20 connections, and nobody is late for it."""
    with answering(always(ok(), 0.05)) as service:
        tally = send(load(service.port, connections=400, rate=400.0))
    assert tally.errors == {}
    assert 130 < tally.requests < 270
    assert tally.opened > 8
    assert 0.05 <= tally.latencies.percentile(50) < 0.25


def test_a_stall_is_charged_for_all_that_were_due_in_it() -> None:
    """A second in which nothing is answered shows as latency of everyone who would have come, up to all of it.

    Measured from when requests were sent over busy connections, only as many as there are connections would show it.
    """
    stalled_until = 0.0

    async def answer(path: str, headers: Headers, body: bytes) -> bytes:
        nonlocal stalled_until
        if not stalled_until:
            stalled_until = time.monotonic() + 1.6
        if (left := stalled_until - time.monotonic()) < 1.0:  # serves well for 0.6 s, then stalls for one
            await asyncio.sleep(max(0.0, left))
        return ok()

    with answering(answer) as service:
        tally = send(load(service.port, connections=2, rate=200.0, seconds=2.4))
    assert tally.errors == {}
    late = [tally.latencies.percentile(percent) for percent in (70, 90, 99)]
    assert late[0] > 0.1  # over a third of 2.4 s were due in the stall, evenly late by 0 to 1 s
    assert late[1] > 0.5
    assert 0.8 < late[2] < 1.6
    assert tally.starved > 50


def test_an_answer_that_is_waited_for_too_long_counts_as_slow_and_as_an_error() -> None:
    """It is given up after the timeout, and is not missing from the percentiles."""
    with answering(always(ok(), 30)) as service:
        tally = send(load(service.port, timeout=0.2))
    assert set(tally.errors) == {TIMEOUT}
    assert tally.latencies.count == tally.requests >= 4
    assert tally.latencies.percentile(1) >= 0.2


@pytest.mark.parametrize("rate", [None, 200.0])
@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (reply("503 Service Unavailable"), "503"),
        (b"", LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n{", LOST),
        (b"nonsense\r\n\r\n", UNREADABLE),
    ],
    ids=["refused", "lost", "cut short", "no answer"],
)
def test_every_request_ends_in_an_outcome(content: bytes, outcome: str, rate: float | None) -> None:
    """What is not answered well is counted by its kind, and is in no percentile."""
    with answering(always(content)) as service:
        tally = send(replace(load(service.port), rate=rate))
    assert set(tally.outcomes) == {outcome}
    assert tally.completed == 0
    assert tally.latencies.count == 0


@pytest.mark.parametrize("rate", [None, 100.0])
def test_a_server_that_is_not_there_is_counted_too(rate: float | None) -> None:
    """No connection, no answer, but the requests were due."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        tally = send(replace(load(unused.getsockname()[1]), rate=rate))
    assert set(tally.outcomes) == {NO_CONNECTION}
    assert tally.requests >= 4


def test_a_server_that_closes_after_each_answer_is_connected_to_again() -> None:
    """A connection that the server ends in good order loses no request."""
    with answering(always(ok(b"{}", "Connection: close"))) as service:
        tally = send(load(service.port))
    assert tally.errors == {}
    assert tally.opened >= tally.requests > 4


def test_processes_share_a_load() -> None:
    """Two of them carry a connection each, and their tallies are one."""
    with answering(always(ok(), 0.01)) as service:
        tally = send(load(service.port, connections=2, seconds=0.3), processes=2)
    assert tally.errors == {}
    assert tally.opened == 2
    assert len(tally.cpu_shares) == 2
    assert tally.completed > 4


async def _driven(what: Load, after: float) -> tuple[float, object]:
    def stop_later(stop: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(after, stop)

    started = time.monotonic()
    tally = await drive(what, stop_later)
    return time.monotonic() - started, tally


@pytest.mark.parametrize("rate", [None, 100.0])
def test_what_is_stopped_ends_at_once_with_what_was_measured(rate: float | None) -> None:
    """Answers that are still awaited are given up and said to be."""
    with answering(always(ok(), 0.04)) as service:
        long = replace(load(service.port, seconds=60.0), rate=rate)
        elapsed, tally = asyncio.run(_driven(long, 0.6))
    assert elapsed < 5
    assert tally.is_interrupted  # type: ignore[attr-defined]
    assert tally.outcomes["200"] > 5  # type: ignore[attr-defined]
    assert 0.1 < tally.seconds < 5  # type: ignore[attr-defined]


def test_a_busy_client_says_so() -> None:
    """A loop that takes the client's whole core is reported as the client's limit, not the server's."""
    tally = send(replace(load(1), seconds=0.1))
    tally.cpu_shares = [0.97]
    (note,) = Point(load(1), tally, ServerStatistics()).bottlenecks()
    assert "a client process computed 97% of the time" in note
