"""The deadlines of everything that is waiting or running, in one heap."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, Protocol, TypeVar


class Expiring(Protocol):
    """What has a deadline (monotonic seconds) until it is done."""

    @property
    def deadline(self) -> float: ...

    @property
    def is_done(self) -> bool: ...


T = TypeVar("T", bound=Expiring)

_MIN_REBUILD = 64


class Deadlines(Generic[T]):
    """Entries that are done are not searched for; they go when they come up, or all at once when they are more than
    half of the heap. So it stays within about twice what is outstanding, at constant cost per entry."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._order = count()

    def add(self, entry: T, outstanding: int) -> None:
        """Add an entry, where `outstanding` of all that were added are not done."""
        heapq.heappush(self._heap, (entry.deadline, next(self._order), entry))
        if len(self._heap) > 2 * outstanding + _MIN_REBUILD:
            self._heap = [item for item in self._heap if not item[2].is_done]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline of an entry that is not done."""
        while self._heap and self._heap[0][2].is_done:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[T]:
        """Remove and return the entries whose deadline is reached and that are not done."""
        due = []
        while (earliest := self.next()) is not None and earliest <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def __len__(self) -> int:
        return len(self._heap)
