"""One bad request fails alone, whatever it does: raise, kill, hang, or take too much memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest
from tests.batching.test_batcher import LENIENT, SIGNATURE, STRICT, Caller, rows_of, serving
from tests.fakes import FakeInstance
from tests.virtual_clock import run_virtual

from maas.batching.backlog import Backlog
from maas.batching.batcher import Admission
from maas.batching.execution import BatchResult, InstanceGone
from maas.batching.policy import BatchPolicy
from maas.batching.priority import Priority
from maas.batching.request import Answer, Request
from maas.errors import (
    ComputeTimeout,
    DeadlineUnreachable,
    MaasError,
    ModelFailed,
    ModelNotReady,
    OutOfMemory,
    Quarantined,
    QueueFull,
    WorkerDied,
)
from maas.types import Signature, Tensors

POLICY = BatchPolicy(max_batch_size=32)
GUILTY = -1.0


def when_guilty(error: MaasError):  # type: ignore[no-untyped-def]
    """A judge that raises `error` over every batch with the guilty value in it."""
    return lambda inputs, _rows: error if GUILTY in inputs["x"] else None


def reviving(caller: Caller, instances: list[FakeInstance], **options: object):  # type: ignore[no-untyped-def]
    """What takes the place of an instance that dies, after a moment."""

    def replace(dead: FakeInstance) -> None:
        caller.batcher.detach(dead)
        successor = FakeInstance(SIGNATURE, on_death=replace, **options)  # type: ignore[arg-type]
        instances.append(successor)
        asyncio.get_running_loop().call_later(0.1, caller.batcher.attach, successor)

    return replace


def failures_of(caller: Caller) -> list[Exception]:
    return [outcome for (outcome,) in caller.outcomes if isinstance(outcome, Exception)]


@pytest.mark.parametrize("place", [0, 5, 31])
def test_raising_request_is_found_by_halving(place: int) -> None:
    """One of 32 raises: it alone fails, the others are answered, in at most eleven runs."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, judge=when_guilty(ModelFailed("bad row")))
        async with serving(instance, policy=POLICY) as caller:
            for index in range(32):
                caller.send(GUILTY if index == place else float(index))
            await asyncio.sleep(1)
            assert [str(error) for error in failures_of(caller)] == ["bad row"]
            assert isinstance(caller.outcomes[place][0], ModelFailed)
            assert len(instance.batches) <= 11

    run_virtual(scenario())


def test_killing_request_is_found_by_running_alone() -> None:
    """One of 32 kills the process: two deaths, one failure, 31 answers; the same input is then refused for a minute."""

    async def scenario() -> None:
        instances: list[FakeInstance] = []
        judge = when_guilty(WorkerDied("dead"))
        first = FakeInstance(SIGNATURE, seconds=0.01, judge=judge)
        async with serving(first, policy=POLICY) as caller:
            first.on_death = reviving(caller, instances, seconds=0.01, judge=judge)
            for index in range(32):
                caller.send(GUILTY if index == 7 else float(index))
            await asyncio.sleep(3)
            (error,) = failures_of(caller)
            assert isinstance(error, ModelFailed)
            assert error.code == "model_crashed"
            assert len(instances) == 2
            with pytest.raises(Quarantined, match=r"refused for 5\d s more"):
                caller.send(GUILTY)
            caller.send(1.0)
            await asyncio.sleep(61)
            caller.send(GUILTY)
            await asyncio.sleep(3)
            assert len(failures_of(caller)) == 2

    run_virtual(scenario())


def test_hanging_request_is_found_and_gets_its_own_timeout() -> None:
    """One of 8 hangs: its batch-mates are run again and answered, it alone gets `ComputeTimeout`."""

    async def scenario() -> None:
        instances: list[FakeInstance] = []
        judge = when_guilty(ComputeTimeout("hung"))
        first = FakeInstance(SIGNATURE, seconds=0.5, judge=judge)
        async with serving(first, policy=POLICY) as caller:
            first.on_death = reviving(caller, instances, seconds=0.5, judge=judge)
            for index in range(8):
                caller.send(GUILTY if index == 3 else float(index))
            await asyncio.sleep(10)
            assert [type(error) for error in failures_of(caller)] == [ComputeTimeout]
            assert isinstance(caller.outcomes[3][0], ComputeTimeout)

    run_virtual(scenario())


def test_process_that_is_killed_from_outside_costs_nobody() -> None:
    """A death for no fault of a request: all 32 are run again, alone, in the order of their deadlines, and answered."""

    async def scenario() -> None:
        instances: list[FakeInstance] = []
        first = FakeInstance(SIGNATURE, seconds=0.01, fail_with=WorkerDied("killed"))
        async with serving(first, policy=POLICY) as caller:
            first.on_death = reviving(caller, instances, seconds=0.01)
            for index in range(32):
                caller.send(float(index), timeout=60 - index)
            await asyncio.sleep(5)
            assert [answer for (answer,) in caller.answers()] == [2.0 * index for index in range(32)]
            order = [batch[0]["x"].item() for batch in instances[0].batches]
            assert rows_of(instances[0]) == [1] * 32
            assert order == [float(index) for index in reversed(range(32))]

    run_virtual(scenario())


def test_request_that_is_not_idempotent_is_never_run_twice() -> None:
    """Where the model says that a repeated run is not the same, a death is told to its callers."""

    async def scenario() -> None:
        instances: list[FakeInstance] = []
        first = FakeInstance(SIGNATURE, fail_with=WorkerDied("killed"))
        async with serving(first, policy=POLICY, admission=Admission(is_idempotent=False)) as caller:
            first.on_death = reviving(caller, instances)
            caller.send(1.0)
            caller.send(2.0)
            await asyncio.sleep(5)
            assert [type(error) for error in failures_of(caller)] == [WorkerDied, WorkerDied]
            assert instances[0].batches == []

    run_virtual(scenario())


def test_instance_that_was_gone_before_the_batch_blames_nobody() -> None:
    """A batch that was never begun is simply run elsewhere, together."""

    async def scenario() -> None:
        gone, healthy = FakeInstance(SIGNATURE), FakeInstance(SIGNATURE)
        gone.fail_with = InstanceGone()  # type: ignore[assignment]
        async with serving(gone, policy=POLICY) as caller:
            for _ in range(3):
                caller.send(1.0)
            await asyncio.sleep(0)
            caller.batcher.detach(gone)
            await asyncio.sleep(0.1)
            caller.batcher.attach(healthy)
            await asyncio.sleep(1)
            assert len(caller.answers()) == 3
            assert rows_of(healthy) == [3]

    run_virtual(scenario())


def too_large(most: int):  # type: ignore[no-untyped-def]
    return lambda _inputs, rows: OutOfMemory("too large") if rows > most else None


def test_batch_that_does_not_fit_is_halved_and_the_size_remembered() -> None:
    """20 rows where 6 fit: everybody is answered, and the next batches are no larger than what was found to fit."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, judge=too_large(6))
        async with serving(instance, policy=POLICY) as caller:
            for index in range(20):
                caller.send(float(index))
            await asyncio.sleep(1)
            assert len(caller.answers()) == 20
            seen = len(instance.batches)
            for index in range(20):
                caller.send(float(index))
            await asyncio.sleep(1)
            assert len(caller.answers()) == 40
            assert all(rows <= 6 for rows in rows_of(instance)[seen:])

    run_virtual(scenario())


def test_large_request_is_run_in_slices_of_its_rows() -> None:
    """A request with more rows than fit comes back whole, put together of slices, in order."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, judge=too_large(6))
        async with serving(instance, policy=POLICY) as caller:
            caller.send(*map(float, range(20)))
            caller.send(99.0)
            await asyncio.sleep(1)
            assert caller.answers() == [[2.0 * index for index in range(20)], [198.0]]

    run_virtual(scenario())


def test_row_that_does_not_fit_alone_is_out_of_memory() -> None:
    """There is nothing left to halve: that request fails with `out_of_memory`, the others are answered."""

    async def scenario() -> None:
        def judge(inputs: Tensors, rows: int) -> OutOfMemory | None:
            return OutOfMemory("too large") if GUILTY in inputs["x"] else None

        instance = FakeInstance(SIGNATURE, judge=judge)
        async with serving(instance, policy=POLICY) as caller:
            for index in range(8):
                caller.send(GUILTY if index == 2 else float(index))
            await asyncio.sleep(1)
            (error,) = failures_of(caller)
            assert error.code == "out_of_memory"  # type: ignore[attr-defined]

    run_virtual(scenario())


def test_size_that_did_not_fit_is_tried_again_after_a_while() -> None:
    """Memory comes back: a minute later the full batch is run again."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, judge=too_large(6))
        async with serving(instance, policy=POLICY) as caller:
            for _ in range(20):
                caller.send(1.0)
            await asyncio.sleep(61)
            instance.judge = too_large(100)
            for _ in range(20):
                caller.send(1.0)
            await asyncio.sleep(1)
            assert rows_of(instance)[-1] == 20

    run_virtual(scenario())


def test_model_without_rows_in_its_outputs_is_not_sliced() -> None:
    """Where an output has no `batch`, slices could not be put together: the request fails instead."""
    signature = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]", "norm": "float32[]"}, {})

    async def scenario() -> None:
        instance = FakeInstance(signature, judge=too_large(6))
        async with serving(instance, policy=POLICY, signature=signature) as caller:
            caller.send(*map(float, range(20)))
            await asyncio.sleep(1)
            assert [type(error) for error in failures_of(caller)] == [OutOfMemory]

    run_virtual(scenario())


# ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_deadline_that_cannot_be_met_is_refused_at_the_door() -> None:
    """With a second's work queued a request of half a second is refused now, not answered late; one with time is not."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=0.5)
        one = BatchPolicy(max_batch_size=1)
        async with serving(instance, policy=one, admission=STRICT) as caller:
            caller.send(0.0)
            await asyncio.sleep(0.6)  # measured now: half a second a batch
            for _ in range(3):
                caller.send(1.0, timeout=1.8)
                await asyncio.sleep(0)
            with pytest.raises(DeadlineUnreachable) as refused:
                caller.send(
                    2.0, timeout=1.9
                )  # half a second runs, two wait before it, and it takes half itself
            assert refused.value.retry_after == pytest.approx(0.1)
            asked = caller.batcher.unreachable(1.9)
            assert isinstance(asked, DeadlineUnreachable)
            assert asked.retry_after == pytest.approx(0.1)
            assert caller.batcher.unreachable(2.3) is None
            assert isinstance(caller.batcher.unreachable(2.3, begun=1), DeadlineUnreachable)
            caller.send(3.0, timeout=2.3)
            await asyncio.sleep(5)
            assert len(caller.answers()) == 5

    run_virtual(scenario())


def test_unsteady_model_keeps_the_promises_of_the_door() -> None:
    """Overloaded for ten seconds, with batches that take now less and now more than on average: who is let in is nearly always
    answered in time, and no batch's room is wasted."""
    generator = random.Random(0)

    class Unsteady(FakeInstance):
        async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
            self.seconds = generator.choice((0.06, 0.08, 0.10, 0.16))
            return await super().run(requests, rows)

    async def scenario() -> None:
        instance = Unsteady(SIGNATURE)
        async with serving(instance, admission=STRICT) as caller:
            for _ in range(1000):
                with suppress(DeadlineUnreachable):
                    caller.send(1.0, timeout=0.6)
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            expired = len(failures_of(caller))
            assert 0.85 * 4 * len(instance.batches) <= len(caller.outcomes) - expired
            assert expired < 0.1 * len(caller.outcomes)

    run_virtual(scenario())


def test_wrong_measure_corrects_itself() -> None:
    """After one slow run an idle model still takes a request that by the measure would be late, and learns from it."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=20.0)
        async with serving(instance, admission=STRICT) as caller:
            caller.send(1.0)
            await asyncio.sleep(21)
            instance.seconds = 0.01
            for _ in range(40):
                caller.send(1.0, timeout=0.25)
                await asyncio.sleep(0.1)
            assert len(caller.answers()) == 41
            caller.send(1.0)
            caller.send(1.0, timeout=0.25)  # behind another one, and not refused any more
            await asyncio.sleep(1)
            assert len(caller.answers()) == 43

    run_virtual(scenario())


def test_urgent_requests_overtake_in_their_class_and_classes_by_weight() -> None:
    """The earliest deadline runs first, interactive before bulk; and bulk is answered all the same."""

    async def scenario() -> None:
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        one = BatchPolicy(max_batch_size=1)
        async with serving(instance, policy=one) as caller:
            caller.send(0.0)
            await asyncio.sleep(0.1)
            caller.send(1.0, priority=Priority.BULK)
            caller.send(2.0, timeout=50)
            caller.send(3.0, timeout=20)
            caller.send(4.0, priority=Priority.INTERACTIVE)
            await asyncio.sleep(10)
            assert [batch[0]["x"].item() for batch in instance.batches] == [0.0, 4.0, 3.0, 1.0, 2.0]

    run_virtual(scenario())


def test_backlog_of_the_server_bounds_all_models_together() -> None:
    """A model whose own queue has room refuses while others fill the server's, and takes again when they have drained."""

    async def scenario() -> None:
        backlog = Backlog(max_requests=3, max_bytes=1 << 20)
        one = BatchPolicy(max_batch_size=1)
        slow, quick = FakeInstance(SIGNATURE, seconds=1.0), FakeInstance(SIGNATURE)
        async with (
            serving(slow, policy=one, backlog=backlog) as busy,
            serving(quick, policy=one, backlog=backlog) as other,
        ):
            busy.send(0.0)
            await asyncio.sleep(0.1)
            for _ in range(3):
                busy.send(1.0)
            with pytest.raises(QueueFull, match="the server has 3 requests waiting; it holds 3"):
                other.send(1.0)
            await asyncio.sleep(2)
            other.send(1.0)
            await asyncio.sleep(5)
            assert (len(busy.answers()), len(other.answers())) == (4, 1)

    run_virtual(scenario())


@pytest.mark.parametrize("bound", ["model", "server"])
def test_queue_is_bounded_in_bytes(bound: str) -> None:
    """Few large requests fill a queue as many small ones do; a running one does not count."""

    async def scenario() -> None:
        admission = Admission(max_bytes=100, refuses_unreachable=False) if bound == "model" else LENIENT
        backlog = Backlog(100, 100 if bound == "server" else 1 << 20)
        instance = FakeInstance(SIGNATURE, seconds=1.0)
        async with serving(instance, policy=POLICY, admission=admission, backlog=backlog) as caller:
            caller.send(*[1.0] * 20)
            await asyncio.sleep(0.1)
            caller.send(*[1.0] * 20)
            with pytest.raises(QueueFull, match="80 bytes waiting"):
                caller.send(*[1.0] * 20)
            caller.send(*[1.0] * 5)
            await asyncio.sleep(5)
            assert len(caller.answers()) == 3

    run_virtual(scenario())


def test_failed_version_leaves_nobody_waiting() -> None:
    """When there will be no instance any more, what waits is told so at once."""

    async def scenario() -> None:
        async with serving() as caller:
            caller.send(1.0)
            caller.batcher.fail_waiting(ModelNotReady("given up"))
            assert [type(error) for error in failures_of(caller)] == [ModelNotReady]
            assert caller.batcher.statistics().waiting == 0

    run_virtual(scenario())


def test_request_that_may_have_been_executed_is_never_refused() -> None:
    """One that a process died over, and that finds no other one, is told of the death: a client repeats what was refused."""

    async def scenario() -> None:
        first = FakeInstance(SIGNATURE, fail_with=WorkerDied("killed"))
        async with serving(first, policy=POLICY) as caller:
            first.on_death = caller.batcher.detach
            caller.send(1.0)
            await asyncio.sleep(1)
            caller.send(2.0)
            caller.batcher.fail_waiting(ModelNotReady("given up"))
            assert [type(error) for error in failures_of(caller)] == [WorkerDied, ModelNotReady]

    run_virtual(scenario())


def test_expired_and_abandoned_requests_are_not_run_again() -> None:
    """A death does not bring back what its caller no longer waits for."""

    async def scenario() -> None:
        instances: list[FakeInstance] = []
        first = FakeInstance(SIGNATURE, seconds=1.0, fail_with=WorkerDied("killed"))
        async with serving(first, policy=POLICY) as caller:
            first.on_death = reviving(caller, instances)
            caller.send(1.0)
            caller.send(2.0, timeout=0.5)
            left: Request = caller.send(3.0)
            await asyncio.sleep(0.1)
            caller.batcher.abandon(left)
            await asyncio.sleep(5)
            assert isinstance(caller.outcomes[0][0], Answer)
            assert rows_of(instances[0]) == [1]
            assert np.array_equal(instances[0].batches[0][0]["x"], [1.0])

    run_virtual(scenario())
