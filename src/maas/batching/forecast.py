"""When what is queued will be answered, by the pace of recent batches."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from maas.batching.batch import Batch
from maas.batching.pace import Pace
from maas.batching.policy import BatchPolicy
from maas.batching.queue import WaitingQueue
from maas.batching.request import Request


class Forecast:
    """Of one queue. `instances` are how many there are, `begun` how many requests will be in the queue though they are not yet."""

    def __init__(self, queue: WaitingQueue, policy: BatchPolicy, pace: Pace) -> None:
        self._queue = queue
        self._policy = policy
        self._pace = pace
        self.renew()

    def renew(self) -> None:
        """Take note of the pace: a full batch of the longest rows is what `is_soon` goes by, which is asked for each request."""
        elements = self._pace.longest()
        self._full_rows = self._rows_of_a_batch(elements)
        self._full_turn = self._pace.turn_of(self._full_rows, elements)
        self.margin = self._pace.margin(self._full_rows, elements)
        """Seconds by which an answer may well be later than it is foreseen."""

    def is_soon(self, rows: int, deadline: float, now: float, begun: int = 0) -> bool:
        """Whether a request would be in time even behind all that waits and a batch that has just begun: the usual case, and
        quickly seen."""
        batches = (self._queue.rows + begun + rows) // self._full_rows + 2
        return now + batches * self._full_turn + self.margin <= deadline

    def seconds_until_answer(
        self, request: Request, now: float, instances: int, busy: Collection[Batch], begun: int
    ) -> float:
        """How long `request` would take, were it queued now; `busy` are the batches that run, where no instance is idle."""
        elements = self._queue.mean_elements()
        size = self._rows_of_a_batch(elements)
        full, rest = divmod(self._queue.rows_ahead(request) + begun, size)
        seconds = full // instances * self._pace.turn_of(size, elements)
        ends = (batch.started + self._pace.turn_of(batch.rows, batch.elements) - now for batch in busy)
        seconds += max(0.0, min(ends, default=0.0))
        own = max(elements, prod(request.lengths))
        return seconds + self._pace.seconds_for(min(max(size, request.rows), rest + request.rows), own)

    def seconds_to_drain(self, instances: int) -> float:
        """How long what waits now takes; a second while nothing is known."""
        elements = self._queue.mean_elements()
        size = self._rows_of_a_batch(elements)
        a_batch = self._pace.turn_of(size, elements)
        if not a_batch or not instances:
            return 1.0
        return -(-self._queue.rows // size) * a_batch / instances

    def _rows_of_a_batch(self, elements: int) -> int:
        return min(self._policy.largest(elements), self._pace.sizes(elements).limit)
