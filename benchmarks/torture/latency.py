"""What a request pays when nothing is wrong: under a steady load, alone, behind a long batch; and what idling costs."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

import numpy as np
import uvloop
from benchmarks.torture.adapters.contract import Setup
from benchmarks.torture.adapters.maas import ask, serving
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.models import Double, Habit
from benchmarks.torture.processes import cpu_seconds, tree
from benchmarks.torture.scenario import Bench, Scenario
from benchmarks.torture.schedule import Phase
from benchmarks.torture.trace import percentile
from benchmarks.torture.verdict import Check, at_most, exactly, for_the_record, within
from benchmarks.torture.versions import Model
from benchmarks.torture.wire import Connection, connections, timed

from maas.batching.backlog import Backlog
from maas.batching.batcher import Admission, Batcher
from maas.batching.execution import BatchResult
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.batching.request import Outcome, Request
from maas.types import Signature, Tensors

_WARM_UP = 200
_CALLS = 1000
_FIRST = 1_000_000  # numbers from here on are the load's own


def steady(bench: Bench) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup()) as service:
        phases = (Phase(200, 17),)
        request = service.ask(50, f"1{NUMBER.decode()}")
        trace = bench.run(Load(service.port, (request,), phases, doubles=True))
        runs = service.ledger.runs(_FIRST)
    measured = trace.between(2, 17)  # what came before warmed up
    batch = statistics.mean(len(run.numbers) for run in runs) if runs else float("nan")
    return [
        exactly("failed", trace.failed, 0),
        at_most("p50", measured.percentile(50) * 1e3, 85, "ms"),
        at_most("p99", measured.percentile(99) * 1e3, 120, "ms"),
        for_the_record("p99.9", measured.percentile(99.9) * 1e3, "ms"),
        within("mean batch", batch, 8, 13),
    ]


def lone_request(bench: Bench) -> Sequence[Check]:
    bare = _bare_call(Habit(bench.folder, "cpu"))
    with (
        bench.adapter.serve(bench.folder, Setup()) as service,
        connections(service.port, 1) as (connection,),
    ):
        request = service.ask(0, 0)  # which the ledger does not hold
        served = np.array([_seconds(connection, request) for _ in range(_WARM_UP + _CALLS)])[_WARM_UP:]
    return [
        at_most("added, p50", (percentile(served, 50) - bare) * 1e3, 1, "ms"),
        for_the_record("p99", percentile(served, 99) * 1e3, "ms"),
    ]


def lone_request_in_process(bench: Bench) -> Sequence[Check]:
    bare = _bare_call(Double(bench.folder, "cpu"))
    batched = uvloop.run(_batched_call())
    return [at_most("added by the batcher, p50", (batched - bare) * 1e3, 0.1, "ms")]


def deadline(bench: Bench) -> Sequence[Check]:
    """The server's own deadline, for not every server takes a client's; door refusal is off."""
    setup = Setup(max_batch_size=1, deadline=0.05, refuses_unreachable=False)
    with (
        bench.adapter.serve(bench.folder, setup) as service,
        connections(service.port, 2) as (busy, late),
    ):
        busy.send(service.ask(1000, 1))
        time.sleep(0.1)
        answer, seconds = timed(late, service.ask(0, 2))
    return [exactly("status", answer.status, 504), at_most("answered after", seconds * 1e3, 70, "ms")]


def idle(bench: Bench) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup()) as service:
        time.sleep(2)
        processes = tree(service.process.pid)
        before = cpu_seconds(processes)
        time.sleep(10)
        share = (cpu_seconds(processes) - before) / 10
    return [
        at_most("of a core", share * 100, 0.5, "%"),
        for_the_record("processes", len(processes)),
    ]


def client_deadlines(bench: Bench) -> Sequence[Check]:
    """Deadlines that come from the callers: all late ones are answered at their own time, and none of them is run."""
    options = {"habit": {"max_batch_size": 1, "refuse_unreachable": False}}
    with (
        serving(bench.folder, {"habit": Model(Habit)}, models=options) as server,
        connections(server.port, 9) as (busy, *late),
    ):
        busy.send(ask(1000, 1))
        time.sleep(0.1)
        started = time.monotonic()
        for index, connection in enumerate(late):
            connection.send(ask(0, 10 + index, X_Request_Timeout=0.1 * (index + 1)))
        lateness = []
        for index, connection in enumerate(late):
            assert connection.read().status == 504
            lateness.append(time.monotonic() - started - 0.1 * (index + 1))
        busy.read()
        time.sleep(0.2)
        executed = server.ledger.executed() & set(range(10, 18))
    return [
        at_most("late by at most", max(lateness) * 1e3, 20, "ms"),
        exactly("executed", len(executed), 0),
    ]


def _seconds(connection: Connection, request: bytes) -> float:
    answer, seconds = timed(connection, request)
    assert answer.status == 200, answer
    return seconds


def _bare_call(model: Double) -> float:
    """Median seconds of calling the instant model in this process."""
    inputs = {"x": np.zeros((1, 2), np.float32)}
    seconds = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        model.run(inputs)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


class _InProcess:
    """An instance that is the instant model itself."""

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:  # noqa: ARG002
        return BatchResult({"y": requests[0]["x"] * 2}, 0.0, True)


async def _batched_call() -> float:
    """Median seconds from submitting a lone request to a batcher to having its answer."""
    signature = Signature.parse({"x": "float32[batch, 2]"}, {"y": "float32[batch, 2]"}, {})
    batcher = Batcher(
        "double", signature, BatchPolicy(), Admission(), backlog=Backlog(4096, 1 << 30), permits=Permits(2)
    )
    batcher.attach(_InProcess())
    inputs = {"x": np.ones((1, 2), np.float32)}
    seconds = []
    async with asyncio.TaskGroup() as group:
        group.create_task(batcher.serve())
        for _ in range(_WARM_UP + _CALLS):
            answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            started = time.perf_counter()
            batcher.submit(Request(inputs, 1, time.monotonic() + 30, answer.set_result))
            await answer
            seconds.append(time.perf_counter() - started)
        await batcher.drain()
    return statistics.median(seconds[_WARM_UP:])


SCENARIOS = (
    Scenario("steady", "200 requests/s, open loop, over 50 ms a batch of at most 32", steady),
    Scenario(
        "lone-request", "one request at a time over HTTP, instant model, against the bare call", lone_request
    ),
    Scenario(
        "lone-in-process", "the same through the batcher alone", lone_request_in_process, is_of_maas=True
    ),
    Scenario("deadline", "a deadline of 50 ms behind a batch of 1 s", deadline),
    Scenario(
        "deadlines",
        "eight callers' deadlines behind a batch of 1 s; none is run",
        client_deadlines,
        is_of_maas=True,
    ),
    Scenario("idle", "all processes together, no requests", idle),
)
