"""Statistics: every request counts once, by what became of it, and its times add up."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tests.api.harness import DRIVER, Model, Service, in_loop, serving
from tests.batching.test_batcher import SIGNATURE, Caller
from tests.batching.test_batcher import serving as batching
from tests.batching.test_failures import GUILTY, reviving, when_guilty
from tests.fakes import FakeInstance
from tests.virtual_clock import run_virtual

from maas.batching.policy import BatchPolicy
from maas.batching.request import Answer, Timings
from maas.errors import ModelFailed, OutOfMemory, WorkerDied
from maas.telemetry.metrics import Metrics, Totals

VERSION = ("double", "1")
PARTS = ("queue", "compute_input", "compute_infer", "compute_output")
# Batches are not begun before the last request has come.
HELD = {"models": {"double": {"max_queue_delay": 0.05, "refuse_unreachable": False}}}


async def statistics(service: Service) -> dict[str, Any]:
    (found,) = (await service.get("/v2/models/double/stats")).json()["model_stats"]
    stats = found["inference_stats"]
    assert {stats[part]["count"] for part in PARTS} == {stats["success"]["count"]}
    assert sum(stats[part]["ns"] for part in PARTS) <= stats["success"]["ns"] + len(PARTS)  # of rounding
    assert sum(size["compute_infer"]["count"] for size in found["batch_stats"]) == found["execution_count"]
    return dict(found)


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    stats = found["inference_stats"]
    done = stats["success"]["count"], stats["fail"]["count"]
    return (*done, found["inference_count"], found["execution_count"])


def sizes(found: dict[str, Any]) -> dict[int, int]:
    return {size["batch_size"]: size["compute_infer"]["count"] for size in found["batch_stats"]}


@in_loop
async def test_batch_counts_once_and_its_time_for_each_request() -> None:
    """Over requests the durations are those of each, over batches those of each batch."""
    async with serving(Model(seconds=0.01), configuration=HELD) as service:
        instance = service.instances["double/1"]
        instance.input, instance.output = 0.002, 0.004
        await asyncio.gather(*(service.predict({"x": [[1, 2]] * rows}) for rows in (1, 1, 2)))
        found = await statistics(service)
    assert counts(found) == (3, 0, 4, 1)
    (size,) = found["batch_stats"]
    for part, ns in {"compute_input": 2e6, "compute_infer": 1e7, "compute_output": 4e6}.items():
        of_batch, of_requests = size[part]["ns"], found["inference_stats"][part]["ns"]
        assert ns <= of_batch < ns + 1e6 * 50
        assert of_requests == pytest.approx(3 * of_batch, abs=3)


@in_loop
async def test_requests_that_fail_alone_count_as_failed() -> None:
    """The batch that is halved is none that was answered; the halves that are, are. What is refused is failed too."""
    async with serving(Model(), configuration=HELD) as service:
        service.instances["double/1"].judge = when_guilty(ModelFailed("bad row"))
        answers = await asyncio.gather(*(service.predict({"x": [x, 0]}) for x in (1, 2, GUILTY, 3)))
        assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
        assert (await service.predict({"x": [1]})).status_code == 400
        found = await statistics(service)
    assert (counts(found), sizes(found)) == ((3, 2, 3, 2), {1: 1, 2: 1})


@in_loop
async def test_answer_that_cannot_be_said_is_a_failure() -> None:
    """The model has run it, and its caller has got an error: its time is in no part of what succeeded."""
    model = Model(function=lambda inputs: {"y": np.full_like(inputs["x"], np.inf)})
    async with serving(model, configuration=HELD) as service:
        assert (await service.predict({"x": [1, 2]})).status_code == 500
        found = await statistics(service)
    assert (counts(found), sizes(found)) == ((0, 1, 0, 1), {1: 1})


@in_loop
async def test_callers_that_leave_and_deadlines_that_pass_are_failures() -> None:
    """Whether they wait or run; the batch that ran them counts, and its rows do not count as answered."""
    DRIVER.set("lane")
    async with serving(Model(seconds=0.1), configuration=HELD) as service:
        calls = [asyncio.create_task(service.predict({"x": [x, x]})) for x in (1, 2, 3)]
        calls.append(
            asyncio.create_task(service.predict({"x": [4, 4]}, headers={"X-Request-Timeout": "0.07"}))
        )
        await service.until_running(4)
        calls.append(asyncio.create_task(service.predict({"x": [5, 5]})))
        await service.until_waiting(1)
        calls[0].cancel()
        calls[4].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        statuses = [getattr(answer, "status_code", None) for answer in answers]
        assert statuses == [None, 200, 200, 504, None]
        found = await statistics(service)
    assert (counts(found), sizes(found)) == ((2, 3, 2, 1), {4: 1})


@in_loop
async def test_request_that_runs_again_after_a_death_counts_once() -> None:
    """Its batch was never answered; what it ran in then was."""
    async with serving(Model(), configuration=HELD) as service:
        instance = service.instances["double/1"]
        instance.fail_with = WorkerDied("killed")
        batcher = service.live().batcher

        def replace(dead: FakeInstance) -> None:
            batcher.detach(dead)
            batcher.attach(FakeInstance(service.live().signature))

        instance.on_death = replace
        answers = await asyncio.gather(*(service.predict({"x": [x, 0]}) for x in range(3)))
        assert [answer.status_code for answer in answers] == [200] * 3
        found = await statistics(service)
    assert (counts(found), sizes(found)) == ((3, 0, 3, 3), {1: 3})


def timings_of(caller: Caller) -> list[Timings]:
    answers = [outcome for (outcome,) in caller.outcomes if isinstance(outcome, Answer)]
    return [answer.timings for answer in answers]


def test_times_of_requests_are_what_they_waited_for() -> None:
    """One that waits for the batch before it queues as long as that takes; its rows are its own."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=0.5, input=0.25, output=0.125)
        async with batching(instance) as caller:
            caller.send(1.0)
            await asyncio.sleep(0.1)
            caller.send(2.0, 3.0)
            await asyncio.sleep(5)
            first, second = timings_of(caller)
        assert first == Timings(0.0, 0.5, 0.25, 0.125, 1)
        assert second == Timings(pytest.approx(0.775), 0.5, 0.25, 0.125, 2)

    run_virtual(scenario())


def test_slices_of_a_large_request_add_up() -> None:
    """Run in four pieces, each of which is brought there and back."""

    async def scenario() -> None:
        def too_large(_inputs: object, rows: int) -> Exception | None:
            return OutOfMemory("no room") if rows > 1 else None

        instance = FakeInstance(SIGNATURE, seconds=0.5, input=0.25, output=0.125, judge=too_large)
        async with batching(instance) as caller:
            caller.send(1.0, 2.0, 3.0, 4.0)
            await asyncio.sleep(20)
            assert timings_of(caller) == [Timings(0.0, 2.0, 1.0, 0.5, 4)]

    run_virtual(scenario())


def test_totals_are_conserved_through_deaths_and_failures() -> None:
    """32 requests of which one kills: their counts and times, counted in batches and by request, agree to the last."""

    async def scenario() -> Totals:
        metrics = Metrics(list)
        instances: list[FakeInstance] = []
        judge = when_guilty(WorkerDied("dead"))
        first = FakeInstance(SIGNATURE, seconds=0.25, judge=judge, input=0.125, output=0.0625)
        async with batching(
            first,
            policy=BatchPolicy(max_batch_size=32),
            observe=lambda batch: metrics.observe_batch(VERSION, batch),
        ) as caller:
            first.on_death = reviving(
                caller, instances, seconds=0.25, judge=judge, input=0.125, output=0.0625
            )
            for index in range(32):
                caller.send(GUILTY if index == 7 else float(index))
            await asyncio.sleep(50)
            for (outcome,) in caller.outcomes:
                if isinstance(outcome, Answer):
                    metrics.count_answer(VERSION, outcome.timings, 50.0)
                else:
                    metrics.count_error(VERSION, outcome.code)  # type: ignore[union-attr]
        return metrics.totals_of(VERSION)

    totals = run_virtual(scenario())
    answered, (batches,) = totals.answered, totals.batches.values()
    assert (answered.count, answered.rows, totals.failed) == (31, 31, 1)
    assert list(totals.batches) == [1]
    assert (answered.count, answered.input, answered.compute, answered.output) == (
        batches.count,
        batches.input,
        batches.compute,
        batches.output,
    )
    assert answered.queue + answered.input + answered.compute + answered.output <= answered.total == 31 * 50


def test_many_answers_are_counted_like_few() -> None:
    """What is kept to be counted together is in every total at once, and once."""
    metrics = Metrics(list)
    for number in range(1, 1301):
        metrics.count_answer(VERSION, Timings(0.25, 0.5, 0.125, 0.0625, 2), 1.0)
        if number in (1, 512, 513, 1300):
            for _ in range(2):
                answered = metrics.totals_of(VERSION).answered
                assert (answered.count, answered.rows, answered.total) == (number, 2 * number, number)
                assert (answered.queue, answered.input) == (number / 4, number / 8)
                assert (answered.compute, answered.output) == (number / 2, number / 16)
