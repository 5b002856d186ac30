"""When to run what: a pure decision over what is waiting. No clock, no await, no framework.

Work-conserving: an idle instance gets what is waiting now, and while all are busy the next batch grows. The oldest
request is always in the next batch. Rows are shared out over the idle instances rather than heaped on the first.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol


class Pending(Protocol):
    """What the policy knows of a waiting request: its extent, and when it arrived (monotonic seconds)."""

    @property
    def rows(self) -> int: ...

    @property
    def arrived(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Take:
    """Run the `count` oldest requests of the group `key` as one batch."""

    key: Hashable
    count: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Batches to run now, and when to ask again if nothing else happens (None: no need to)."""

    batches: tuple[Take, ...] = ()
    ask_again_at: float | None = None


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """`max_batch_size` counts rows. `max_queue_delay` is how many seconds the oldest request may wait for company
    though an instance is idle; 0 means that it never does."""

    max_batch_size: int = 32
    max_queue_delay: float = 0.0

    def decide(self, groups: Mapping[Hashable, Collection[Pending]], idle: int, now: float) -> Decision:
        """Batches for `idle` instances out of `groups`: each non-empty, oldest first, and stackable within itself."""
        if not idle or not groups:
            return Decision()
        heads = {key: _head(group, idle * self.max_batch_size) for key, group in groups.items()}
        batches: list[Take] = []
        ask_again_at: float | None = None
        while heads and len(batches) < idle:
            key = min(heads, key=lambda key: heads[key][0].arrived)
            head = heads[key]
            rows = sum(request.rows for request in head)
            due = head[0].arrived + self.max_queue_delay
            if rows < self.max_batch_size and due > now:
                ask_again_at = due if ask_again_at is None else min(ask_again_at, due)
                del heads[key]
                continue
            share = -(-rows // (idle - len(batches)))
            count = _count_within(head, min(self.max_batch_size, share))
            batches.append(Take(key, count))
            heads[key] = head[count:]
            if not heads[key]:
                del heads[key]
        return Decision(tuple(batches), ask_again_at)


def _head(group: Collection[Pending], enough: int) -> list[Pending]:
    """The oldest of `group`, up to the one that makes `enough` rows: a long queue costs no more than that."""
    head = []
    rows = 0
    for request in group:
        head.append(request)
        rows += request.rows
        if rows >= enough:
            break
    return head


def _count_within(head: list[Pending], rows: int) -> int:
    """How many of the oldest fit into `rows`; the first always does."""
    total = head[0].rows
    for count, request in enumerate(head[1:], start=1):
        total += request.rows
        if total > rows:
            return count
    return len(head)
