"""What waits: requests by priority, by what they can be stacked with and by length, the earliest deadline first."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterable
from math import inf, prod
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol, TypeVar

from maas.batching.priority import WEIGHTS, Priority
from maas.batching.request import Request
from maas.types import Lengths


class GroupKey(NamedTuple):
    """Requests of one group may share a batch; those of one `stack` key may across priorities and `lengths`, which are the
    bucket of their variable dimensions."""

    priority: Priority
    stack: Hashable
    lengths: Lengths = ()


class HasRows(Protocol):
    @property
    def rows(self) -> int: ...


R = TypeVar("R", bound=HasRows)


class Group(list[R], Generic[R]):
    """Requests in their order, and the `rows` of all, which would take long to count where thousands wait."""

    def __init__(self, requests: Iterable[R] = ()) -> None:
        super().__init__(requests)
        self.rows = sum(request.rows for request in self)


class WaitingQueue:
    """Each group is a plain list kept sorted: requests nearly always come in the order of their deadlines, and moving
    some thousand pointers is cheaper than any tree."""

    def __init__(self) -> None:
        self.groups: dict[GroupKey, Group[Request]] = {}
        self.rows = 0
        self.nbytes = 0
        self.count = 0
        self._elements = 0  # of the rows of requests that have lengths

    def __len__(self) -> int:
        return self.count

    def add(self, request: Request) -> None:
        key = _key_of(request)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group()
        if group and request.order < group[-1].order:
            insort(group, request, key=_order)
        else:
            group.append(request)
        rows = request.rows
        group.rows += rows
        self.rows += rows
        self.count += 1
        self.nbytes += request.nbytes
        if request.lengths:
            self._elements += rows * prod(request.lengths)

    def remove(self, request: Request) -> bool:
        """Take `request` out wherever it stands; False where it does not wait."""
        key = _key_of(request)
        group = self.groups.get(key, Group[Request]())
        index = bisect_left(group, request.order, key=_order)
        if index == len(group) or group[index] is not request:
            return False
        self._drop(key, index, index + 1)
        return True

    def take(self, key: GroupKey, count: int) -> list[Request]:
        """Take out the first `count` requests of a group."""
        return self._drop(key, 0, count)

    def take_due(self, now: float) -> list[Request]:
        """Take out what has reached its deadline."""
        due: list[Request] = []
        for key in [key for key, group in self.groups.items() if group[0].deadline <= now]:
            due += self._drop(key, 0, bisect_right(self.groups[key], now, key=_deadline))
        return due

    def earliest(self) -> float:
        """The deadline that is reached first; infinity where nothing waits."""
        return min((group[0].deadline for group in self.groups.values()), default=inf)

    def mean_elements(self) -> int:
        """Of the rows that wait, the elements of one on average; 1 where there are no lengths."""
        return max(1, self._elements // self.rows) if self._elements else 1

    def rows_ahead(self, request: Request) -> int:
        """About how many rows will be run before `request`, were it added now: those of its class that are due earlier,
        and of the other classes what their weights let in meanwhile."""
        rows = dict.fromkeys(Priority, 0)
        for key, group in self.groups.items():
            rows[key.priority] += group.rows
        behind = sum(
            group[-1].rows * (len(group) - bisect_left(group, (request.deadline, sys.maxsize), key=_order))
            for key, group in self.groups.items()
            if key.priority == request.priority and group[-1].deadline > request.deadline
        )
        ahead = max(0, rows.pop(request.priority) - behind)
        for other, waiting in rows.items():
            fair = (ahead + request.rows) * WEIGHTS[other] // WEIGHTS[request.priority]
            ahead += min(waiting, fair)
        return ahead

    def _drop(self, key: GroupKey, start: int, end: int) -> list[Request]:
        group = self.groups[key]
        gone = group[start:end]
        rows = sum(map(_rows, gone))
        group.rows -= rows
        self.rows -= rows
        self.count -= len(gone)
        self.nbytes -= sum(map(_nbytes, gone))
        if key.lengths:
            self._elements -= sum(request.rows * prod(request.lengths) for request in gone)
        del group[start:end]
        if not group:
            del self.groups[key]
        return gone


def _key_of(request: Request) -> GroupKey:
    return GroupKey(request.priority, request.stack_key, request.bucket)


_rows = attrgetter("rows")
_nbytes = attrgetter("nbytes")
_order = attrgetter("order")
_deadline = attrgetter("deadline")
