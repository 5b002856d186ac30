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
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from maas.batching.deadlines import Deadlines
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.errors import DeadlineExceeded, Draining, QueueFull
from maas.tensors.stack import split, stack_key
from maas.types import Answer, Signature, Tensors, Timings

Outcome = Answer | Exception


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch's outputs, stacked; the seconds that the model computed; whether no output holds NaN or infinity."""

    outputs: Tensors
    compute: float
    is_finite: bool


class Instance(Protocol):
    """One loaded copy of a model; it runs one batch at a time."""

    async def run(self, requests: Sequence[Tensors], rows: int) -> BatchResult:
        """Run `requests`, stacked to `rows` rows. What it raises is every request's outcome."""


@dataclass(slots=True, eq=False)
class Request:
    """A request on its way through the queue. Times are the loop's, in seconds; `rows` is its extent in the batch."""

    inputs: Tensors
    rows: int
    deadline: float
    complete: Callable[[Outcome], None]
    key: Hashable = field(default=None, init=False)
    arrived: float = field(default=0.0, init=False)
    is_done: bool = field(default=False, init=False)

    def finish(self, outcome: Outcome) -> None:
        """Complete, unless the request has expired or its caller has left."""
        if not self.is_done:
            self.is_done = True
            self.complete(outcome)


@dataclass(frozen=True, slots=True)
class BatchObservation:
    """What one batch that was answered tells a meter: how long each request queued, rows, the model's seconds."""

    queued: Sequence[float]
    rows: int
    compute: float


@dataclass(frozen=True, slots=True)
class BatcherStatistics:
    """A glance: requests `waiting` and `running`, instances `idle` and `busy`."""

    waiting: int
    running: int
    idle: int
    busy: int


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that one instance runs together."""

    instance: Instance
    requests: list[Request]

    @property
    def rows(self) -> int:
        return sum(request.rows for request in self.requests)

    def finish(self, outcome: Outcome) -> None:
        """Complete every request that is not done with the same outcome."""
        for request in self.requests:
            request.finish(outcome)


_SMOOTHING = 0.2  # weight of the newest batch in the drain rate
_TIMER_SLACK = 0.001  # seconds that a timer may ring early: uvloop counts in milliseconds


class Batcher:
    def __init__(
        self,
        name: str,
        signature: Signature,
        policy: BatchPolicy,
        *,
        queue_size: int,
        permits: Permits,
        observe: Callable[[BatchObservation], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._signature = signature
        self._policy = policy
        self._queue_size = queue_size
        self._permits = permits
        self._observe = observe
        self._clock = clock  # the loop's own, but uvloop rounds that to milliseconds
        self._groups: dict[Hashable, OrderedDict[Request, None]] = {}
        self._waiting = 0
        self._waiting_rows = 0
        self._running: set[Batch] = set()
        self._instances: set[Instance] = set()
        self._idle: OrderedDict[Instance, None] = OrderedDict()
        self._deadlines: Deadlines[Request] = Deadlines()
        self._alarm: asyncio.TimerHandle | None = None
        self._rows_per_second = 0.0
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._is_draining = False
        self._loop = asyncio.get_running_loop()

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, request: Request) -> None:
        """Queue `request`. Refused at once, by `QueueFull` or `Draining`, it is not completed."""
        if self._is_draining:
            raise Draining(f"model {self._name!r} is draining")
        if self._waiting >= self._queue_size:
            raise QueueFull(
                f"model {self._name!r} has {self._waiting} requests waiting; its queue holds {self._queue_size}",
                retry_after=self._seconds_to_drain(),
            )
        request.key = stack_key(self._signature, request.inputs)
        request.arrived = self._clock()
        self._groups.setdefault(request.key, OrderedDict())[request] = None
        self._waiting += 1
        self._waiting_rows += request.rows
        self._deadlines.add(request)
        self._set_alarm(request.deadline)
        self._changed.set()

    def abandon(self, request: Request) -> None:
        """The caller has left: a waiting request is never run, a running one's rows are dropped."""
        request.is_done = True
        self._forget(request)
        self._changed.set()

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

    # ── the owner ────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self) -> None:
        """Run batches until drained. Woken after the loop's readers, so a batch holds what one pass has read.

        Cancelled, it answers everything accepted with `Draining`.
        """
        try:
            async with asyncio.TaskGroup() as batches:
                while not (self._is_draining and self._waiting == 0 and not self._running):
                    await self._changed.wait()
                    self._changed.clear()
                    for batch in self._assign(self._clock() + _TIMER_SLACK):
                        batches.create_task(self._run(batch))
        finally:
            self._close()

    async def drain(self) -> None:
        """Refuse what comes, and return when everything accepted has been completed."""
        self._is_draining = True
        self._changed.set()
        await self._drained.wait()

    def statistics(self) -> BatcherStatistics:
        running = sum(len(batch.requests) for batch in self._running)
        return BatcherStatistics(self._waiting, running, len(self._idle), len(self._running))

    def _assign(self, now: float) -> list[Batch]:
        """Take from the queue what the policy wants to run now, each batch with an instance and a permit."""
        decision = self._policy.decide(self._groups, len(self._idle), now)
        batches: list[Batch] = []
        for take in decision.batches:
            if not self._permits.acquire(self._changed.set):
                break
            instance, _ = self._idle.popitem(last=False)
            batches.append(Batch(instance, self._take(take.key, take.count)))
        else:
            self._permits.forgo(self._changed.set)
        self._running.update(batches)
        if decision.ask_again_at is not None:
            self._set_alarm(decision.ask_again_at)
        return batches

    def _take(self, key: Hashable, count: int) -> list[Request]:
        requests = list(islice(self._groups[key], count))
        for request in requests:
            self._forget(request)
        return requests

    async def _run(self, batch: Batch) -> None:
        started = self._clock()
        try:
            result = await batch.instance.run([request.inputs for request in batch.requests], batch.rows)
            self._note_rate(batch.rows, self._clock() - started)
            self._scatter(batch, result, started)
        except Exception as error:  # a model's failure, or a bug: in either case its requests' outcome
            batch.finish(error)
        except asyncio.CancelledError:
            batch.finish(self._stopped())
            raise
        finally:
            self._end(batch)

    def _end(self, batch: Batch) -> None:
        self._running.discard(batch)
        self._permits.release()
        if batch.instance in self._instances:
            self._idle[batch.instance] = None
        self._changed.set()

    def _close(self) -> None:
        """Leave nothing behind: neither a caller without an outcome, nor a permit, nor a timer."""
        self._is_draining = True
        stopped = self._stopped()
        for batch in list(self._running):  # cancelled before they had begun
            batch.finish(stopped)
            self._end(batch)
        for key in list(self._groups):
            for request in self._take(key, len(self._groups[key])):
                request.finish(stopped)
        self._permits.forgo(self._changed.set)
        if self._alarm is not None:
            self._alarm.cancel()
        self._drained.set()

    def _stopped(self) -> Draining:
        return Draining(f"model {self._name!r} was stopped before it had answered")

    def _scatter(self, batch: Batch, result: BatchResult, started: float) -> None:
        rows = [request.rows for request in batch.requests]
        parts = [
            (spec.name, split(result.outputs[spec.name], spec.batch_axis, rows))
            for spec in self._signature.outputs
        ]
        queued = [started - request.arrived for request in batch.requests]
        self._observe(BatchObservation(queued, sum(rows), result.compute))
        for index, request in enumerate(batch.requests):
            outputs = {name: part[index] for name, part in parts}
            request.finish(Answer(outputs, Timings(queued[index], result.compute), result.is_finite))

    # ── bookkeeping ──────────────────────────────────────────────────────────────────────────────────────────

    def _forget(self, request: Request) -> None:
        """Take `request` off the queue if it is there."""
        group = self._groups.get(request.key)
        if group is not None and request in group:
            del group[request]
            self._waiting -= 1
            self._waiting_rows -= request.rows
            if not group:
                del self._groups[request.key]

    def _set_alarm(self, when: float) -> None:
        """Wake at `when` at the latest."""
        if self._alarm is not None:
            if self._alarm.when() <= when:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        for request in self._deadlines.pop_due(self._clock() + _TIMER_SLACK):
            self._forget(request)
            request.finish(
                DeadlineExceeded(f"model {self._name!r} gave no answer before the request's deadline")
            )
        if (earliest := self._deadlines.next()) is not None:
            self._set_alarm(earliest)
        self._changed.set()

    def _note_rate(self, rows: int, seconds: float) -> None:
        rate = rows / max(seconds, 1e-6)
        weight = _SMOOTHING if self._rows_per_second else 1.0
        self._rows_per_second += weight * (rate - self._rows_per_second)

    def _seconds_to_drain(self) -> float:
        """How long what waits now takes, by the rate of recent batches; a second while nothing is known."""
        rate = self._rows_per_second * len(self._instances)
        return self._waiting_rows / rate if rate else 1.0
