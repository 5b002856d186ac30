"""The batcher: the queue of one live version, and the only one who takes from it.

A waiting request is a record whose `complete` is called exactly once, with an answer or an error. Requests come in
by `submit`; `serve`, the owner, hands batches to idle instances as the policy decides; instances come and go by
`attach` and `detach` as their processes do. Deadlines are kept here and nowhere else: what has expired is answered
at its deadline whether it waits or runs, and what still waits then is never run.

Invariant between two awaits: every submitted request is waiting, in one running batch, or done. What a model
process is, which protocol a request came by and what is measured is left to others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import prod
from operator import attrgetter

from maas.batching.backlog import Backlog
from maas.batching.batch import Batch
from maas.batching.buckets import bucket_of
from maas.batching.execution import BatchObservation, Execution, Instance, InstanceGone
from maas.batching.forecast import Forecast
from maas.batching.pace import Pace
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.batching.priority import Priority
from maas.batching.quarantine import Quarantine
from maas.batching.queue import GroupKey, WaitingQueue
from maas.batching.request import Outcome, Request
from maas.errors import (
    Aborted,
    ComputeTimeout,
    DeadlineExceeded,
    DeadlineUnreachable,
    Draining,
    InvalidRequest,
    MaasError,
    ModelFailed,
    Quarantined,
    QueueFull,
    WorkerDied,
)
from maas.tensors.packing import nbytes_of
from maas.tensors.stack import stack_key
from maas.types import CurvePoint, Signature

_TIMER_SLACK = 0.001  # seconds that a timer may ring early: uvloop counts in milliseconds
_MAX_DEATHS = 2  # of model processes over one request: in company, and alone

_nbytes = attrgetter("nbytes")
_order = attrgetter("order")


@dataclass(frozen=True, slots=True)
class Admission:
    """What a queue takes: so many requests and bytes; whether a request is refused that cannot meet its deadline; and
    whether one whose process died may be run again."""

    max_requests: int = 4096
    max_bytes: int = 1 << 30
    refuses_unreachable: bool = True
    is_idempotent: bool = True


@dataclass(frozen=True, slots=True)
class BatcherStatistics:
    """A glance: requests `waiting` and `running`, instances `idle` and `busy`."""

    waiting: int
    running: int
    idle: int
    busy: int


class Batcher:
    def __init__(
        self,
        name: str,
        signature: Signature,
        policy: BatchPolicy,
        admission: Admission,
        *,
        backlog: Backlog,
        permits: Permits,
        observe: Callable[[BatchObservation], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._signature = signature
        self._policy = policy
        self._admission = admission
        self._backlog = backlog
        self._permits = permits
        self._clock = clock  # the loop's own, but uvloop rounds that to milliseconds
        self._loop = asyncio.get_running_loop()
        self._queue = WaitingQueue()
        self._sequence = count()
        self._shares: Mapping[Priority, float] = {}
        self._quarantine = Quarantine()
        self._pace = Pace(policy.largest)
        self._execution = Execution(signature, self._pace, observe, clock)
        self._running: set[Batch] = set()
        self._running_count = 0  # requests in them
        self._forecast = Forecast(self._queue, policy, self._pace)
        self._instances: set[Instance] = set()
        # Each with the batch that it has just run, if others were waiting.
        self._idle: OrderedDict[Instance, Batch | None] = OrderedDict()
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = math.inf  # which uvloop's handle does not tell where the moment has come already
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._is_draining = False
        self.has_refused = False
        """Whether the last request that was looked at was refused, so that it is worth asking before the next is read."""

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────

    def refusal(self, nbytes: int = 0) -> MaasError | None:
        """Why a request with `nbytes` of inputs would be refused now, whatever it holds; None if it would not."""
        if self._is_draining:
            return Draining(f"model {self._name!r} is draining")
        queue, limits = self._queue, self._admission
        reason = self._backlog.refusal(nbytes)
        if queue.count >= limits.max_requests:
            reason = f"model {self._name!r} has {queue.count} requests waiting; its queue holds {limits.max_requests}"
        elif queue.nbytes + nbytes > limits.max_bytes:
            reason = (
                f"model {self._name!r} has {queue.nbytes} bytes waiting; its queue holds {limits.max_bytes}"
            )
        if reason is None:
            return None
        return QueueFull(reason, retry_after=self._forecast.seconds_to_drain(len(self._instances)))

    def unreachable(
        self, timeout: float, priority: Priority = Priority.STANDARD, begun: int = 0
    ) -> MaasError | None:
        """Why a request that may take `timeout` seconds from now would be refused as too late, behind what is queued and
        `begun` more that will be."""
        now = self._clock()
        if self._instances and self._forecast.is_soon(1, now + timeout, now, begun):
            return None
        return self._unreachable(Request({}, 1, now + timeout, _nobody, priority), now, begun)

    def submit(self, request: Request) -> None:
        """Queue `request`. Refused at once, it is not completed: `QueueFull`, `Draining`, `DeadlineUnreachable`, or
        `Quarantined` where its inputs have ended a model process a moment ago; `InvalidRequest` where it costs more than a
        batch may."""
        self.has_refused = True
        signature = self._signature
        request.nbytes = sum(map(nbytes_of if signature.has_bytes else _nbytes, request.inputs.values()))
        if signature.variable:
            self._measure(request)
        if (refusal := self.refusal(request.nbytes)) is not None:
            raise refusal
        now = self._clock()
        if self._quarantine:
            self._check_quarantine(request, now)
        deadline = request.deadline
        is_soon = self._instances and self._forecast.is_soon(request.rows, deadline, now)
        if not is_soon and (unreachable := self._unreachable(request, now)) is not None:
            raise unreachable
        self.has_refused = False
        if not signature.stacks_all:
            request.stack_key = stack_key(signature, request.inputs)
        request.arrived = now
        request.order = (deadline, next(self._sequence))
        self._enqueue(request)
        if deadline < self._alarm_at:
            self._set_alarm(deadline)

    def _measure(self, request: Request) -> None:
        """Take its lengths. Raises `InvalidRequest` where no batch may be as large as it is."""
        request.lengths = self._signature.lengths_of(request.inputs)
        request.bucket = bucket_of(request.lengths)
        most = self._policy.max_batch_cost
        if most is not None and request.rows * prod(request.lengths) > most:
            raise InvalidRequest(
                f"the request has {request.rows} rows of lengths {' × '.join(map(str, request.lengths))}, which cost "
                f"{request.rows * prod(request.lengths)}; model {self._name!r} accepts {most}"
            )

    def _check_quarantine(self, request: Request, now: float) -> None:
        if seconds := self._quarantine.seconds_left(request.inputs, now):
            raise Quarantined(
                f"these inputs ended a process of model {self._name!r}; refused for {seconds:.0f} s more"
            )

    def abandon(self, request: Request) -> None:
        """The caller has left: a waiting request is never run, a running one's rows are dropped."""
        self._dequeue(request)
        request.abandon()
        self._changed.set()

    def learn(self, curve: Sequence[CurvePoint]) -> None:
        """What the version's batches took when it was warmed up."""
        self._pace.learn(curve)
        self._forecast.renew()

    # ── instances ────────────────────────────────────────────────────────────────────────────────────────────

    def attach(self, instance: Instance) -> None:
        """`instance` may be given batches from now on."""
        self._instances.add(instance)
        self._idle[instance] = None
        self._changed.set()

    def detach(self, instance: Instance) -> None:
        """`instance` gets no further batch; one that it runs ends as its `run` does."""
        self._instances.discard(instance)
        self._idle.pop(instance, None)

    @property
    def has_instances(self) -> bool:
        return bool(self._instances)

    # ── the owner ────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self) -> None:
        """Run batches until drained. Woken after the loop's readers, so a batch holds what one pass has read.

        Cancelled, it answers everything accepted: what runs with `Aborted`, what waits with `Draining`.
        """
        try:
            async with asyncio.TaskGroup() as batches:
                while not (self._is_draining and not self._queue and not self._running):
                    await self._changed.wait()
                    self._changed.clear()
                    for batch in self._assign(self._clock()):
                        batches.create_task(self._run(batch))
        finally:
            self._close()

    async def drain(self) -> None:
        """Refuse what comes, and return when everything accepted has been completed."""
        self.begin_drain()
        await self._drained.wait()

    def begin_drain(self) -> None:
        """Refuse what comes; `serve` returns when everything accepted has been completed."""
        self._is_draining = True
        self._changed.set()

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Batcher {self._name}: {now.waiting} waiting, {now.running} running>"

    def statistics(self) -> BatcherStatistics:
        return BatcherStatistics(len(self._queue), self._running_count, len(self._idle), len(self._running))

    def _assign(self, now: float) -> list[Batch]:
        """Take from the queue what the policy wants to run now, each batch with an instance and a permit."""
        decision = self._policy.decide(
            self._queue.groups, len(self._idle), now + _TIMER_SLACK, self._shares, self._pace.sizes
        )
        batches: list[Batch] = []
        for takes in decision.batches:
            if not self._permits.acquire(self._changed.set):
                break
            instance, before = self._idle.popitem(last=False)
            if before is not None:
                self._pace.observe_turn(before.rows, now - before.started, before.elements)
            requests = [request for take in takes for request in self._take(take.key, take.count, now)]
            batches.append(Batch(instance, requests, now))
        else:
            self._shares = decision.shares
            self._permits.forgo(self._changed.set)
        self._running.update(batches)
        self._running_count += sum(len(batch.requests) for batch in batches)
        if decision.ask_again_at is not None:
            self._set_alarm(decision.ask_again_at)
        return batches

    def _take(self, key: GroupKey, count: int, now: float) -> list[Request]:
        requests = self._queue.take(key, count)
        for request in requests:
            request.started = now
        self._backlog.remove(len(requests), sum(map(_nbytes, requests)))
        return requests

    async def _run(self, batch: Batch) -> None:
        try:
            await self._execution.run(batch.instance, batch.requests, partial(self._free, batch))
        except (InstanceGone, WorkerDied, ComputeTimeout) as error:
            for request in batch.requests:
                self._settle_death(request, error)
        except asyncio.CancelledError:
            for request in batch.requests:
                request.finish(Aborted(f"model {self._name!r} was stopped while it ran this request"))
            raise
        finally:
            self._end(batch)

    def _settle_death(self, request: Request, error: Exception) -> None:
        """What becomes of a request whose batch lost its process: it is run alone, once, and if that ends a process
        too, it was the one. A request of the batch that was not being run just then is run again as before."""
        if request.is_done:
            return
        if request.deaths >= _MAX_DEATHS:
            self._quarantine.add(request.inputs, self._clock())
            crashed = ModelFailed("the model's process died over this request", code="model_crashed")
            request.finish(error if isinstance(error, ComputeTimeout) else crashed)
        elif request.deaths and not self._may_run_again(request):
            request.finish(WorkerDied(f"a process of model {self._name!r} ended over this request's batch"))
        else:
            if request.deaths:
                request.stack_key = ("alone", request.order)
            self._enqueue(request)

    def _may_run_again(self, request: Request) -> bool:
        soonest = self._clock() + self._pace.seconds_for(request.rows, prod(request.lengths))
        return self._admission.is_idempotent and soonest <= request.deadline

    def _free(self, batch: Batch) -> bool:
        """Its instance may have the next batch; whether there is something for one."""
        if batch in self._running:
            self._running.discard(batch)
            self._permits.release()
            if batch.instance in self._instances:
                self._idle[batch.instance] = batch if self._queue else None
            self._changed.set()
        return bool(self._queue)

    def _end(self, batch: Batch) -> None:
        self._free(batch)
        self._running_count -= len(batch.requests)
        self._forecast.renew()
        self._changed.set()

    def fail_waiting(self, error: MaasError) -> None:
        """There will be no instance: complete everything that waits with `error`; what a process died over may have been
        executed, and must not look as if it had been refused."""
        for key in list(self._queue.groups):
            for request in self._take(key, len(self._queue.groups[key]), self._clock()):
                request.finish(_after_a_death(error) if request.deaths else error)
        self._changed.set()

    def _close(self) -> None:
        """Leave nothing behind: neither a caller without an outcome, nor a permit, nor a timer."""
        self._is_draining = True
        for batch in list(self._running):  # cancelled before they had begun
            for request in batch.requests:
                request.finish(self._stopped())
            self._end(batch)
        self.fail_waiting(self._stopped())
        self._permits.forgo(self._changed.set)
        if self._alarm is not None:
            self._alarm.cancel()
        self._drained.set()

    def _stopped(self) -> Draining:
        return Draining(f"model {self._name!r} was stopped before it had answered")

    # ── bookkeeping ──────────────────────────────────────────────────────────────────────────────────────────

    def _enqueue(self, request: Request) -> None:
        self._queue.add(request)
        self._backlog.add(request.nbytes)
        self._changed.set()

    def _dequeue(self, request: Request) -> None:
        """Take `request` off the queue if it is there."""
        if self._queue.remove(request):
            self._backlog.remove(1, request.nbytes)

    def _set_alarm(self, when: float) -> None:
        """Wake at `when` at the latest."""
        if self._alarm_at <= when:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        now = self._clock() + _TIMER_SLACK
        due = self._queue.take_due(now)
        self._backlog.remove(len(due), sum(map(_nbytes, due)))
        for batch in self._running:
            due += batch.take_due(now)
        for request in sorted(due, key=_order):
            request.finish(
                DeadlineExceeded(f"model {self._name!r} gave no answer before the request's deadline")
            )
        self._set_alarm(min(self._queue.earliest(), *(batch.deadline for batch in self._running), math.inf))
        self._changed.set()

    def _unreachable(self, request: Request, now: float, begun: int = 0) -> MaasError | None:
        """The refusal where the request, by what is measured and queued, would be answered too late.

        One that finds an idle instance and nothing waiting is always taken: its run is what corrects a wrong measure.
        """
        if (
            not self._admission.refuses_unreachable
            or not self._instances
            or (self._idle and not self._queue and not begun)
        ):
            return None
        busy = () if self._idle else self._running
        request.foreseen = now + self._forecast.seconds_until_answer(
            request, now, len(self._instances), busy, begun
        )
        late = request.foreseen + self._forecast.margin - request.deadline
        if late <= 0:
            return None
        return DeadlineUnreachable(
            f"model {self._name!r} would answer {late:.3f} s after the request's deadline",
            retry_after=late,
        )


def _after_a_death(error: MaasError) -> WorkerDied:
    return (Aborted if isinstance(error, Draining) else WorkerDied)(error.message)


def _nobody(_: Outcome) -> None:
    """Completes a request that is only asked about."""
