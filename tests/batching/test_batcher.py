"""The batcher: every accepted request is answered exactly once, with its own rows, by its deadline."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvloop
from tests.fakes import FakeInstance
from tests.virtual_clock import run_virtual

from maas.batching.backlog import Backlog
from maas.batching.batcher import Admission, Batcher
from maas.batching.execution import BatchObservation
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.batching.priority import Priority
from maas.batching.request import Answer, Outcome, Request
from maas.errors import (
    Aborted,
    DeadlineExceeded,
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    ModelFailed,
    QueueFull,
)
from maas.types import Bounds, CurvePoint, Signature

SIGNATURE = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]"}, {})
LENGTHS = Signature.parse({"x": "float32[batch, time]"}, {"y": "float32[batch, time]"}, {})


LENIENT = Admission(max_requests=100, refuses_unreachable=False)
LENIENT_4 = Admission(max_requests=4, refuses_unreachable=False)
STRICT = Admission(max_requests=100)


class Caller:
    """Sends requests and keeps every outcome that each got."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.outcomes: list[list[Outcome]] = []

    def send(self, *values: float, timeout: float = 60.0, priority: Priority = Priority.STANDARD) -> Request:
        outcomes: list[Outcome] = []
        deadline = asyncio.get_running_loop().time() + timeout
        inputs = {"x": np.array(values, np.float32)}
        request = Request(inputs, len(values), deadline, outcomes.append, priority)
        self.batcher.submit(request)
        self.outcomes.append(outcomes)
        return request

    def answers(self) -> list[list[float]]:
        """What each request was answered; fails where one got an error, nothing, or more than one outcome."""
        answers = []
        for (outcome,) in self.outcomes:
            assert isinstance(outcome, Answer)
            answers.append(outcome.outputs["y"].tolist())
        return answers


@asynccontextmanager
async def serving(
    *instances: FakeInstance,
    policy: BatchPolicy | None = None,
    signature: Signature = SIGNATURE,
    admission: Admission = LENIENT,
    backlog: Backlog | None = None,
    permits: Permits | None = None,
    observe: Callable[[BatchObservation], None] = lambda _: None,
) -> AsyncIterator[Caller]:
    batcher = Batcher(
        "test",
        signature,
        policy or BatchPolicy(max_batch_size=4),
        admission,
        backlog=backlog or Backlog(1000, 1 << 30),
        permits=permits or Permits(100),
        observe=observe,
        clock=asyncio.get_running_loop().time,
    )
    for instance in instances:
        batcher.attach(instance)
    async with asyncio.TaskGroup() as group:
        owner = group.create_task(batcher.serve())
        yield Caller(batcher)
        owner.cancel()


def rows_of(instance: FakeInstance) -> list[int]:
    return [sum(len(inputs["x"]) for inputs in batch) for batch in instance.batches]


def test_request_that_is_late_already_is_told_so_and_harms_no_other() -> None:
    """A deadline that is over, or within the millisecond that uvloop's timers count in, is one like any other: whoever
    comes next is not refused for it."""

    async def scenario() -> None:
        async with serving(FakeInstance(SIGNATURE, seconds=0.05)) as caller:
            caller.send(0.0)
            for timeout in (-0.001, 0.0, 0.0004, -1.0):
                caller.send(1.0, timeout=timeout)
            await asyncio.sleep(0.02)
            assert [type(outcome) for (outcome,) in caller.outcomes[1:]] == [DeadlineExceeded] * 4

    uvloop.run(scenario())


def test_lone_request_runs_at_once() -> None:
    """A request that finds an idle instance does not queue at all."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=0.05)
        async with serving(instance) as caller:
            caller.send(1.0)
            await asyncio.sleep(0.05)
            await asyncio.sleep(0)
            assert caller.answers() == [[2.0]]
            ((answer,),) = caller.outcomes
            assert isinstance(answer, Answer)
            assert (answer.timings.queue, answer.timings.compute) == (0.0, 0.05)

    run_virtual(scenario())


def test_each_caller_gets_its_own_rows() -> None:
    """Requests of different extent run as one batch and are given back their own rows, in order."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE)
        async with serving(instance) as caller:
            caller.send(1.0)
            caller.send(2.0, 3.0)
            caller.send(4.0)
            await asyncio.sleep(0.01)
            assert caller.answers() == [[2.0], [4.0, 6.0], [8.0]]
            assert rows_of(instance) == [4]

    run_virtual(scenario())


def test_requests_of_one_loop_pass_are_one_batch() -> None:
    """The owner runs after the readers: what they read in one pass of the loop is batched though nothing is waited for."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE)
        async with serving(instance, policy=BatchPolicy(max_batch_size=32)) as caller:
            loop = asyncio.get_running_loop()
            for value in range(10):
                loop.call_soon(caller.send, float(value))
            await asyncio.sleep(0.01)
            assert rows_of(instance) == [10]

    run_virtual(scenario())


def test_batch_grows_while_the_instance_is_busy() -> None:
    """Whatever comes during a batch is the next one."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=0.05)
        async with serving(instance, policy=BatchPolicy(max_batch_size=32)) as caller:
            for step in range(6):
                caller.send(float(step))
                await asyncio.sleep(0.009)
            await asyncio.sleep(1)
            assert rows_of(instance) == [1, 5]

    run_virtual(scenario())


def test_open_load_over_a_slow_model_settles_at_the_batch_it_needs() -> None:
    """200 requests/s over 50 ms a batch: mean batch about 10 and a median far under two batches' time."""

    async def scenario() -> None:
        queued: list[float] = []
        instance = FakeInstance(SIGNATURE, seconds=0.05)
        policy = BatchPolicy(max_batch_size=32)
        async with serving(instance, policy=policy, observe=lambda b: queued.extend(b.queued)) as caller:
            for value in range(1000):
                caller.send(float(value))
                await asyncio.sleep(0.005)
            await asyncio.sleep(1)
            assert len(caller.answers()) == 1000
            assert 9 <= np.mean(rows_of(instance)) <= 11
            assert np.median(queued) <= 0.03
            assert max(queued) <= 0.051

    run_virtual(scenario())


def test_full_queue_refuses_at_once() -> None:
    """A request that finds the queue full is refused without waiting, and told when to come back."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        async with serving(instance, policy=BatchPolicy(max_batch_size=2), admission=LENIENT_4) as caller:
            for _ in range(2):
                caller.send(0.0)
            await asyncio.sleep(1.5)  # the drain rate is known now: 2 rows a second
            for _ in range(2):
                caller.send(0.0)
            await asyncio.sleep(0.1)
            for _ in range(4):
                caller.send(0.0)
            with pytest.raises(QueueFull, match="4 requests waiting; its queue holds 4") as refused:
                caller.send(0.0)
            assert refused.value.retry_after == pytest.approx(2.0)
            await asyncio.sleep(10)
            assert len(caller.answers()) == 8

    run_virtual(scenario())


def test_deadline_is_answered_while_the_request_waits_and_it_is_never_run() -> None:
    """An expired request gets its error at its deadline, whatever the instance is doing, and costs no compute."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        async with serving(instance) as caller:
            caller.send(1.0)
            await asyncio.sleep(0.01)
            caller.send(2.0, timeout=0.05)
            await asyncio.sleep(0.045)
            assert caller.outcomes[1] == []
            await asyncio.sleep(0.006)
            (outcome,) = caller.outcomes[1]
            assert isinstance(outcome, DeadlineExceeded)
            await asyncio.sleep(5)
            assert rows_of(instance) == [1]

    run_virtual(scenario())


def test_deadline_is_answered_while_the_request_runs() -> None:
    """A running batch does not delay a deadline, and its late answer is dropped."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        async with serving(instance) as caller:
            caller.send(1.0, timeout=0.05)
            caller.send(2.0)
            await asyncio.sleep(0.06)
            assert isinstance(caller.outcomes[0][0], DeadlineExceeded)
            await asyncio.sleep(1)
            assert [len(outcomes) for outcomes in caller.outcomes] == [1, 1]
            assert isinstance(caller.outcomes[1][0], Answer)

    run_virtual(scenario())


def test_abandoned_request_is_never_run() -> None:
    """Six queue, five callers leave: one is executed, and nobody else notices."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        async with serving(instance) as caller:
            caller.send(0.0)
            await asyncio.sleep(0.1)
            queued = [caller.send(float(value)) for value in range(1, 7)]
            for request in queued[:5]:
                caller.batcher.abandon(request)
            assert caller.batcher.statistics().waiting == 1
            await asyncio.sleep(5)
            assert rows_of(instance) == [1, 1]
            assert [len(outcomes) for outcomes in caller.outcomes] == [1, 0, 0, 0, 0, 0, 1]

    run_virtual(scenario())


def test_rows_of_a_caller_who_left_while_running_are_dropped() -> None:
    """The batch goes on; its other callers get their own rows."""

    async def scenario() -> None:
        async with serving(FakeInstance(SIGNATURE, seconds=1.0)) as caller:
            left = caller.send(1.0)
            caller.send(2.0)
            await asyncio.sleep(0.1)
            caller.batcher.abandon(left)
            await asyncio.sleep(2)
            assert caller.outcomes[0] == []
            assert isinstance(caller.outcomes[1][0], Answer)
            assert caller.outcomes[1][0].outputs["y"].tolist() == [4.0]

    run_virtual(scenario())


def test_failed_batch_is_an_outcome_and_the_instance_goes_on() -> None:
    """What the model raises is given to its requests; the next batch runs on the same instance."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, fail_with=ModelFailed("it raised"))
        async with serving(instance) as caller:
            caller.send(1.0)
            caller.send(2.0)
            await asyncio.sleep(0.1)
            assert [type(outcome) for (outcome,) in caller.outcomes] == [ModelFailed, ModelFailed]
            instance.fail_with = None
            caller.send(3.0)
            await asyncio.sleep(0.1)
            assert isinstance(caller.outcomes[2][0], Answer)

    run_virtual(scenario())


def test_model_with_too_few_rows_fails_its_batch_only() -> None:
    """An instance that breaks the contract does not end the owner: the requests fail and the next batch runs."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, function=lambda _: {})
        async with serving(instance) as caller:
            caller.send(1.0)
            await asyncio.sleep(0.1)
            assert isinstance(caller.outcomes[0][0], KeyError)
            instance.function = lambda inputs: {"y": inputs["x"]}
            caller.send(1.0)
            await asyncio.sleep(0.1)
            assert isinstance(caller.outcomes[1][0], Answer)

    run_virtual(scenario())


def test_next_batch_runs_while_the_last_is_answered() -> None:
    """What waits is sent off before answers are written, for an instance must not wait for callers to be served."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        async with serving(instance, policy=BatchPolicy(max_batch_size=2)) as caller:
            running_when_answered = []

            def complete(_: Outcome) -> None:
                running_when_answered.append(len(instance.batches))

            for number in range(5):
                deadline = asyncio.get_running_loop().time() + 60
                caller.batcher.submit(Request({"x": np.array([number], np.float32)}, 1, deadline, complete))
            await asyncio.sleep(10)
            assert running_when_answered == [2, 2, 3, 3, 3]
            assert caller.batcher.statistics().running == 0
            assert caller.batcher.statistics().idle == 1

    run_virtual(scenario())


def test_detached_instance_gets_no_further_batch() -> None:
    """A dying instance that is detached during its batch is not used again; another takes over when it comes."""

    async def scenario() -> None:
        first, second = FakeInstance(SIGNATURE, seconds=1.0), FakeInstance(SIGNATURE)
        async with serving(first) as caller:
            caller.send(1.0)
            await asyncio.sleep(0.1)
            caller.batcher.detach(first)
            await asyncio.sleep(2)
            caller.send(2.0)
            await asyncio.sleep(2)
            assert caller.outcomes[1] == []
            caller.batcher.attach(second)
            await asyncio.sleep(0.1)
            assert caller.answers() == [[2.0], [4.0]]
            assert len(first.batches) == 1

    run_virtual(scenario())


def test_requests_that_cannot_be_stacked_never_share_a_batch() -> None:
    """Different lengths of a variable dimension make batches of their own, the oldest first."""

    async def scenario() -> None:
        instance = FakeInstance(LENGTHS)
        async with serving(instance, signature=LENGTHS) as caller:
            for length in (2, 3, 2):
                outcomes: list[Outcome] = []
                inputs = {"x": np.zeros((1, length), np.float32)}
                caller.batcher.submit(Request(inputs, 1, 2000.0, outcomes.append))
                caller.outcomes.append(outcomes)
            await asyncio.sleep(0.1)
            assert [[inputs["x"].shape for inputs in batch] for batch in instance.batches] == [
                [(1, 2), (1, 2)],
                [(1, 3)],
            ]
            assert [len(answer[0]) for answer in caller.answers()] == [2, 3, 2]

    run_virtual(scenario())


def test_drain_answers_what_was_accepted_and_refuses_the_rest() -> None:
    """Draining ends when the last accepted request is answered."""

    async def scenario() -> None:
        async with serving(
            FakeInstance(SIGNATURE, seconds=1.0), policy=BatchPolicy(max_batch_size=1)
        ) as caller:
            for value in range(3):
                caller.send(float(value))
            async with asyncio.TaskGroup() as group:
                draining = group.create_task(caller.batcher.drain())
                await asyncio.sleep(0.5)
                with pytest.raises(Draining):
                    caller.send(9.0)
                assert not draining.done()
            assert caller.answers() == [[0.0], [2.0], [4.0]]

    run_virtual(scenario())


def test_stopped_owner_answers_everybody() -> None:
    """An owner that is cancelled leaves nobody waiting: what queued was refused, what ran may have been executed."""

    async def scenario() -> None:
        policy = BatchPolicy(max_batch_size=1)
        async with serving(FakeInstance(SIGNATURE, seconds=9.0), policy=policy) as caller:
            caller.send(1.0)
            caller.send(2.0)
            await asyncio.sleep(1)
        assert [type(outcome) for (outcome,) in caller.outcomes] == [Aborted, Draining]
        statistics = caller.batcher.statistics()
        assert statistics.waiting + statistics.running == 0

    run_virtual(scenario())


def test_running_batches_of_all_models_stay_within_the_permits() -> None:
    """With one permit two models take turns, however busy the first one is."""

    async def scenario() -> None:
        permits = Permits(1)
        busy, shy = FakeInstance(SIGNATURE, seconds=1.0), FakeInstance(SIGNATURE, seconds=1.0)
        one = BatchPolicy(max_batch_size=1)
        async with (
            serving(busy, permits=permits, policy=one) as first,
            serving(shy, permits=permits, policy=one) as second,
        ):
            for value in range(5):
                first.send(float(value))
            await asyncio.sleep(0.5)
            second.send(7.0)
            await asyncio.sleep(1.0)  # 1.5 s: the first model's second batch would be running
            assert (len(busy.batches), len(shy.batches)) == (1, 1)
            await asyncio.sleep(10)
            assert second.answers() == [[14.0]]
            assert len(first.answers()) == 5

    run_virtual(scenario())


def test_permit_that_is_not_needed_is_passed_on() -> None:
    """A model whose waiting request has left gives its turn to the next."""

    async def scenario() -> None:
        permits = Permits(1)
        one = BatchPolicy(max_batch_size=1)
        instances = [FakeInstance(SIGNATURE, seconds=1.0) for _ in range(3)]
        async with (
            serving(instances[0], permits=permits, policy=one) as first,
            serving(instances[1], permits=permits, policy=one) as second,
            serving(instances[2], permits=permits, policy=one) as third,
        ):
            first.send(1.0)
            await asyncio.sleep(0.1)
            left = second.send(2.0)
            third.send(3.0)
            await asyncio.sleep(0.1)
            second.batcher.abandon(left)
            await asyncio.sleep(5)
            assert third.answers() == [[6.0]]
            assert instances[1].batches == []

    run_virtual(scenario())


def test_one_long_deadline_does_not_pile_up_what_is_done() -> None:
    """Nothing holds on to an answered request until it would have expired."""

    async def scenario() -> None:
        async with serving(FakeInstance(SIGNATURE), policy=BatchPolicy(max_batch_size=32)) as caller:
            for value in range(5000):
                caller.send(float(value), timeout=3600.0)
                if value % 20 == 0:
                    await asyncio.sleep(0.001)
            await asyncio.sleep(1)
            assert len(caller.answers()) == 5000
            assert sum(type(kept) is Request for kept in gc.get_objects()) < 300

    run_virtual(scenario())


PADDED = Signature.parse(
    {"x": "float32[batch, time]"}, {"y": "float32[batch, time]"}, {"time": Bounds(max=8, pad=-9)}
)


def test_requests_of_different_lengths_share_a_batch_and_get_their_own_length() -> None:
    """Where a dimension is padded the answers are as without; what padding cost is observed."""
    seen: list[BatchObservation] = []

    async def scenario() -> None:
        instance = FakeInstance(PADDED)
        async with serving(instance, signature=PADDED, observe=seen.append) as caller:
            caller.batcher.learn(
                [CurvePoint(1, 8, 0.1), CurvePoint(4, 8, 0.1)]
            )  # as long for four as for one
            for length in (3, 1, 2):
                inputs = {"x": np.full((1, length), length, np.float32)}
                deadline = asyncio.get_running_loop().time() + 60
                caller.outcomes.append([])
                caller.batcher.submit(Request(inputs, 1, deadline, caller.outcomes[-1].append))
            await asyncio.sleep(1)
            assert caller.answers() == [[[6, 6, 6]], [[2]], [[4, 4]]]
            assert len(instance.batches) == 1

    run_virtual(scenario())
    assert [(batch.rows, batch.elements, batch.padding) for batch in seen] == [(3, 6, 3)]


def test_a_request_that_costs_more_than_any_batch_may_is_invalid() -> None:
    """With the numbers: it could never be run within what its operator allows."""

    async def scenario() -> None:
        policy = BatchPolicy(max_batch_size=4, max_batch_cost=8)
        async with serving(FakeInstance(PADDED), signature=PADDED, policy=policy) as caller:
            inputs = {"x": np.zeros((2, 5), np.float32)}
            with pytest.raises(
                InvalidRequest, match="2 rows of lengths 5, which cost 10; model 'test' accepts 8"
            ):
                caller.batcher.submit(Request(inputs, 2, 1e9, lambda _: None))

    run_virtual(scenario())


def test_what_warm_up_measured_admits_and_refuses_before_any_batch_has_run() -> None:
    """The first request that could not be answered in time is refused, and told when it might be, by the curve alone."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=10.0)
        async with serving(instance, admission=STRICT) as caller:
            caller.batcher.learn([CurvePoint(rows, 1, 10.0) for rows in (1, 2, 4)])
            caller.send(0.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(DeadlineUnreachable):
                caller.send(1.0, timeout=15.0)
            caller.send(1.0, timeout=25.0)

    run_virtual(scenario())


def test_batches_are_no_larger_than_is_worth_it() -> None:
    """Where throughput does not rise beyond two rows, four that wait are two batches, so the first are answered sooner."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=0.1)
        async with serving(instance, policy=BatchPolicy(max_batch_size=8)) as caller:
            caller.batcher.learn([CurvePoint(1, 1, 1.0), *(CurvePoint(n, 1, n / 2) for n in (2, 4, 8))])
            for value in range(4):
                caller.send(float(value))
            await asyncio.sleep(1)
            assert rows_of(instance) == [2, 2]

    run_virtual(scenario())


def test_what_batches_may_cost_is_counted_in_waiting() -> None:
    """Seven of which each batch may hold two are four batches, for who asks how long the queue is and whether he is in time."""

    async def scenario() -> None:
        policy = BatchPolicy(max_batch_size=32, max_batch_cost=8)
        instance = FakeInstance(PADDED, seconds=1.0)
        admission = Admission(max_requests=7)
        async with serving(instance, signature=PADDED, policy=policy, admission=admission) as caller:
            caller.batcher.learn([CurvePoint(rows, 4, 1.0) for rows in (1, 2)])

            def send(timeout: float) -> None:
                inputs = {"x": np.zeros((1, 4), np.float32)}
                deadline = asyncio.get_running_loop().time() + timeout
                caller.batcher.submit(Request(inputs, 1, deadline, lambda _: None))

            send(60.0)
            await asyncio.sleep(0.01)
            for _ in range(6):
                send(4.2)
            with pytest.raises(DeadlineUnreachable):
                send(4.3)
            send(60.0)
            with pytest.raises(QueueFull) as refused:
                send(60.0)
            assert refused.value.retry_after == pytest.approx(4.0, rel=0.01)

    run_virtual(scenario())
