"""What to run now: a pure decision over what is waiting. No clock, no await, no framework.

1. An idle instance gets what is waiting now, and while all are busy the next batch grows.
2. The class whose turn it is leads: the one that has had the least rows for its weight. The request of that class with the
   earliest deadline is in the next batch.
3. The batch is filled with what can be stacked with it, earliest deadline first, its own class before the others.
4. Rows are shared out over the idle instances rather than heaped on the first.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from maas.batching.priority import WEIGHTS, Priority
from maas.batching.queue import GroupKey


class Pending(Protocol):
    """What the policy knows of a waiting request."""

    @property
    def rows(self) -> int: ...

    @property
    def arrived(self) -> float: ...

    @property
    def order(self) -> tuple[float, int]: ...


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
    """`max_batch_size` counts rows. `max_queue_delay` is how many seconds the oldest request may wait for company
    though an instance is idle; 0 means that it never does."""

    max_batch_size: int = 32
    max_queue_delay: float = 0.0

    def decide(
        self,
        groups: Mapping[GroupKey, Sequence[Pending]],
        idle: int,
        now: float,
        shares: Mapping[Priority, float] | None = None,
    ) -> Decision:
        """Batches for `idle` instances out of `groups`, each of which is sorted by `order`.

        `shares` is what the last decision said; a class that had nothing waiting does not save its turns up.
        """
        if not idle or not groups:
            return Decision(shares=shares or {})
        left = _Left(groups, idle * self.max_batch_size, shares or {})
        batches: list[tuple[Take, ...]] = []
        ask_again_at: float | None = None
        while left.heads and len(batches) < idle:
            stack = left.stack_whose_turn_it_is()
            rows = left.rows_of(stack)
            due = left.oldest_of(stack) + self.max_queue_delay
            if rows < self.max_batch_size and due > now:
                ask_again_at = due if ask_again_at is None else min(ask_again_at, due)
                left.put_off(stack)
                continue
            share = -(-rows // (idle - len(batches)))
            batches.append(left.take(stack, min(self.max_batch_size, share)))
        return Decision(tuple(batches), ask_again_at, left.shares)


class _Left:
    """What is left of the groups while a decision is made: their heads, as long as any batch could reach."""

    def __init__(
        self, groups: Mapping[GroupKey, Sequence[Pending]], enough: int, shares: Mapping[Priority, float]
    ) -> None:
        self.heads = {key: _head(group, enough) for key, group in groups.items()}
        waiting = {key.priority for key in groups}
        least = min((shares[priority] for priority in waiting if priority in shares), default=0.0)
        self.shares = {priority: max(shares.get(priority, least), least) for priority in waiting}

    def stack_whose_turn_it_is(self) -> Hashable:
        leader = min(
            self.heads,
            key=lambda key: (self.shares[key.priority], key.priority, self.heads[key][0].order),
        )
        return leader.stack

    def rows_of(self, stack: Hashable) -> int:
        return sum(request.rows for key in self._keys(stack) for request in self.heads[key])

    def oldest_of(self, stack: Hashable) -> float:
        return min(request.arrived for key in self._keys(stack) for request in self.heads[key])

    def put_off(self, stack: Hashable) -> None:
        for key in self._keys(stack):
            del self.heads[key]

    def take(self, stack: Hashable, target: int) -> tuple[Take, ...]:
        """A batch of about `target` rows; its first request is in it however many rows that has."""
        takes = []
        rows = 0
        for key in self._keys(stack):
            count, rows = _fill(self.heads[key], rows, target)
            if count:
                takes.append(Take(key, count))
                taken, self.heads[key] = self.heads[key][:count], self.heads[key][count:]
                self.shares[key.priority] += sum(r.rows for r in taken) / WEIGHTS[key.priority]
            if not self.heads[key]:
                del self.heads[key]
        return tuple(takes)

    def _keys(self, stack: Hashable) -> list[GroupKey]:
        """Groups that stack with each other, in the order of their turns."""
        keys = [key for key in self.heads if key.stack == stack]
        return sorted(keys, key=lambda key: (self.shares[key.priority], key.priority))


def _head(group: Sequence[Pending], enough: int) -> list[Pending]:
    """The first of `group`, up to the one that makes `enough` rows: a long queue costs no more than that."""
    head: list[Pending] = []
    rows = 0
    for request in group:
        head.append(request)
        rows += request.rows
        if rows >= enough:
            break
    return head


def _fill(head: Sequence[Pending], rows: int, target: int) -> tuple[int, int]:
    """How many of the first fit on top of `rows`, and the rows then; into an empty batch the first always does."""
    for count, request in enumerate(head):
        if rows and rows + request.rows > target:
            return count, rows
        rows += request.rows
    return len(head), rows
