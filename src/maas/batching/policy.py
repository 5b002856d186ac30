"""What to run now: a pure decision over what is waiting. No clock, no await, no framework.

1. An idle instance gets what is waiting now, and while all are busy the next batch grows.
2. The class whose turn it is leads: the one that has had the least rows for its weight. The request of that class with the
   earliest deadline is in the next batch.
3. The batch is filled with what can be stacked with it, earliest deadline first, its own class before the others. Where
   lengths differ it is filled with those that do most work in the time that it takes (`grouping`).
4. A batch grows no further than throughput does, as measured.
5. Rows are shared out over the idle instances rather than heaped on the first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Protocol, SupportsIndex

from maas.batching.grouping import Bucket, choose
from maas.batching.priority import WEIGHTS, Priority
from maas.batching.queue import GroupKey
from maas.batching.sizes import Sizes, unmeasured
from maas.types import Lengths


class Pending(Protocol):
    """What the policy knows of a waiting request."""

    @property
    def rows(self) -> int: ...

    @property
    def arrived(self) -> float: ...

    @property
    def order(self) -> tuple[float, int]: ...


class PendingGroup(Protocol):
    """Waiting requests in their order, and the rows of all."""

    @property
    def rows(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, place: SupportsIndex, /) -> Pending: ...


Groups = Mapping[GroupKey, PendingGroup]


@dataclass(frozen=True, slots=True)
class Take:
    """The `count` requests of a group whose deadlines are the earliest."""

    key: GroupKey
    count: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Batches to run now, each from groups that stack; when to ask again if nothing else happens (None: no need to);
    and how much of its share each class has had then."""

    batches: tuple[tuple[Take, ...], ...] = ()
    ask_again_at: float | None = None
    shares: Mapping[Priority, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """`max_batch_size` counts rows, `max_batch_cost` rows × their padded lengths (None: as many as there are). `max_queue_delay`
    is how many seconds the oldest request may wait for company though an instance is idle; 0 means that it never does."""

    max_batch_size: int = 32
    max_queue_delay: float = 0.0
    max_batch_cost: int | None = None

    def decide(
        self,
        groups: Groups,
        idle: int,
        now: float,
        shares: Mapping[Priority, float] | None = None,
        sizes: Callable[[int], Sizes] = unmeasured,
    ) -> Decision:
        """Batches for `idle` instances out of `groups`, each of which is sorted by `order`.

        `shares` is what the last decision said; a class that had nothing waiting does not save its turns up. `sizes` are the
        measured ones, by the elements of a row.
        """
        if not idle or not groups:
            return Decision(shares=shares or {})
        left = _Left(groups, shares or {})
        batches: list[tuple[Take, ...]] = []
        ask_again_at: float | None = None
        while left.groups and len(batches) < idle:
            leader = left.leader()
            keys: Sequence[GroupKey] = left.keys_of(leader.stack)
            rows = left.rows_of(keys)
            if self.max_queue_delay and rows < self._most(sizes, prod(leader.lengths)):
                due = left.oldest_of(keys) + self.max_queue_delay
                if due > now:
                    ask_again_at = due if ask_again_at is None else min(ask_again_at, due)
                    left.put_off(keys)
                    continue
            share = -(-rows // (idle - len(batches)))

            def most(elements: int, share: int = share) -> int:
                return min(share, self._most(sizes, elements))

            elements = prod(leader.lengths)
            if len(keys) > 1 and leader.lengths:
                elements, keys = choose(
                    left.buckets(keys), leader.lengths, left.first_rows(leader), most, sizes
                )
            batches.append(left.take(leader, keys, most(elements)))
        return Decision(tuple(batches), ask_again_at, left.shares)

    def largest(self, elements: int) -> int:
        """Rows of so many elements that a batch may have, worth it or not; a request with more runs alone."""
        if self.max_batch_cost is None:
            return self.max_batch_size
        return min(self.max_batch_size, max(1, self.max_batch_cost // elements))

    def _most(self, sizes: Callable[[int], Sizes], elements: int) -> int:
        """Rows of so many elements that a batch is given."""
        return min(self.largest(elements), sizes(elements).limit)


class _Rest:
    """A group without its first `start` requests, which have `gone` rows."""

    __slots__ = ("_group", "_start", "rows")

    def __init__(self, group: PendingGroup, start: int, gone: int) -> None:
        self._group = group
        self._start = start
        self.rows = group.rows - gone

    def __len__(self) -> int:
        return len(self._group) - self._start

    def __getitem__(self, place: SupportsIndex, /) -> Pending:
        return self._group[self._start + place.__index__()]


class _Left:
    """What is left of the groups while a decision is made. Nothing here walks a queue further than a batch reaches."""

    def __init__(self, groups: Groups, shares: Mapping[Priority, float]) -> None:
        self.groups = dict(groups)
        waiting = {key.priority for key in groups}
        least = min((shares[priority] for priority in waiting if priority in shares), default=0.0)
        self.shares = {priority: max(shares.get(priority, least), least) for priority in waiting}

    def leader(self) -> GroupKey:
        """The group of the request whose turn it is."""
        if len(self.groups) == 1:
            return next(iter(self.groups))
        leading = min({key.priority for key in self.groups}, key=self._turn_of)
        return min(
            (key for key in self.groups if key.priority is leading), key=lambda key: self.groups[key][0].order
        )

    def keys_of(self, stack: Hashable) -> list[GroupKey]:
        """Groups that stack with each other, in the order of their turns."""
        keys = [key for key in self.groups if key.stack == stack]
        if len(self.shares) > 1:
            keys.sort(key=lambda key: self._turn_of(key.priority))
        return keys

    def rows_of(self, keys: Sequence[GroupKey]) -> int:
        return sum([self.groups[key].rows for key in keys])

    def first_rows(self, key: GroupKey) -> int:
        return self.groups[key][0].rows

    def oldest_of(self, keys: Sequence[GroupKey]) -> float:
        """Asked only where what waits is no full batch."""
        groups = [self.groups[key] for key in keys]
        return min(group[place].arrived for group in groups for place in range(len(group)))

    def put_off(self, keys: Sequence[GroupKey]) -> None:
        for key in keys:
            del self.groups[key]

    def buckets(self, keys: Sequence[GroupKey]) -> list[Bucket[GroupKey]]:
        """What there is of each bucket of lengths, the shortest first."""
        buckets: dict[Lengths, Bucket[GroupKey]] = {}
        for key in keys:
            bucket = buckets.get(key.lengths)
            if bucket is None:
                buckets[key.lengths] = Bucket(key.lengths, self.groups[key].rows, [key])
            else:
                bucket.rows += self.groups[key].rows
                bucket.keys.append(key)
        return sorted(buckets.values(), key=_elements)

    def take(self, leader: GroupKey, keys: Sequence[GroupKey], target: int) -> tuple[Take, ...]:
        """A batch with the request whose turn it is, however many rows that has, and others up to `target` rows."""
        takes = []
        first = self.first_rows(leader)
        room = target - first
        if leader not in keys:  # it is in all the same
            takes.append(Take(leader, 1))
            self._drop(leader, 1, first)
        for key in keys:
            count, rows = _fill(self.groups[key], room, begun=key == leader)
            if count:
                takes.append(Take(key, count))
                room -= rows - first if key == leader else rows
                self._drop(key, count, rows)
        return tuple(takes)

    def _turn_of(self, priority: Priority) -> tuple[float, Priority]:
        return (self.shares[priority], priority)

    def _drop(self, key: GroupKey, count: int, rows: int) -> None:
        group = self.groups[key]
        self.shares[key.priority] += rows / WEIGHTS[key.priority]
        if count == len(group):
            del self.groups[key]
        else:
            self.groups[key] = _Rest(group, count, rows)


def _elements(bucket: Bucket[GroupKey]) -> int:
    return bucket.elements


def _fill(group: PendingGroup, room: int, *, begun: bool) -> tuple[int, int]:
    """How many of a group's first fit into `room` rows, and their rows; where it has `begun`, the first does in any case."""
    count = rows = 0
    if begun:
        count, rows, room = 1, group[0].rows, room + group[0].rows
    if group.rows == len(group):  # as they nearly always are, of one row each
        count = max(count, min(len(group), room))
        return count, count
    while count < len(group) and rows + group[count].rows <= room:
        rows += group[count].rows
        count += 1
    return count, rows
