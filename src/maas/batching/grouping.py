"""Which lengths share a batch: padding is work, and so is one more batch; what is measured says which is more.

What a request is worth is what it costs if it is left for a batch of its own bucket, with those that wait there now: the work
of its rows and its share of what every batch costs. A batch is the better the more of such cost it takes away for the time
that it takes. Each length from the leading request's up is tried as the longest of the batch, filled from there down with
what makes it better; as soon as padding the leading request alone costs more than a batch does, none longer is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Generic, TypeVar

from maas.batching.sizes import Sizes
from maas.types import Lengths

K = TypeVar("K")


class Bucket(Generic[K]):
    """What waits of one bucket of `lengths`: its rows in all, and the groups that hold them in the order of their turns."""

    __slots__ = ("elements", "keys", "lengths", "rows")

    def __init__(self, lengths: Lengths, rows: int, keys: list[K]) -> None:
        self.lengths = lengths
        self.elements = prod(lengths)
        self.rows = rows
        self.keys = keys


@dataclass(slots=True)
class _Batch(Generic[K]):
    """A batch while it is thought of: what its requests are worth, in seconds, and that for each second that it takes."""

    elements: int
    rows: int
    worth: float
    yields: float = 0.0
    keys: list[K] = field(default_factory=list)


def choose(
    buckets: Sequence[Bucket[K]],
    leading: Lengths,
    leading_rows: int,
    most: Callable[[int], int],
    sizes: Callable[[int], Sizes],
) -> tuple[int, Sequence[K]]:
    """The groups that join a request of the bucket `leading`, longest first, and the elements that each row then has.

    `buckets` are sorted by elements; `most` are the rows that a batch may have, and `sizes` the measured ones, by the
    elements of a row.
    """
    (own,) = (bucket for bucket in buckets if bucket.lengths == leading)
    size = sizes(own.elements)
    if own.rows >= most(own.elements):
        return own.elements, own.keys
    worth = leading_rows * _worth(size, own.rows)
    best: _Batch[K] | None = None
    for place, bucket in enumerate(buckets):
        if bucket.elements < own.elements:
            continue
        box = bucket.lengths if len(leading) == 1 else tuple(map(max, bucket.lengths, leading))
        batch: _Batch[K] = _Batch(prod(box), leading_rows, worth)
        larger = sizes(batch.elements)
        if best is not None and leading_rows * (larger.per_row - size.per_row) > larger.overhead:
            break
        _fill(batch, buckets[place::-1], box, leading, most(batch.elements), sizes)
        if best is None or batch.yields > best.yields:
            best = batch
    assert best is not None, "the leading request's own bucket is among them"
    return best.elements, best.keys


def _fill(
    batch: _Batch[K],
    buckets: Sequence[Bucket[K]],
    box: Lengths,
    leading: Lengths,
    room: int,
    sizes: Callable[[int], Sizes],
) -> None:
    """Add what fits into `box` and makes the batch better, the longest first."""
    padded = sizes(batch.elements)
    leading_rows, taken, worth = batch.rows, batch.rows, batch.worth
    yields = worth / (padded.overhead + taken * padded.per_row)
    for bucket in buckets:
        if taken >= room:
            break
        own = sizes(bucket.elements)
        if own.overhead + own.per_row < yields * padded.per_row:
            break  # not even one that waits alone would be worth its padding, and so none that is shorter
        if len(box) > 1 and any(length > limit for length, limit in zip(bucket.lengths, box, strict=True)):
            continue
        rows = min(bucket.rows - leading_rows if bucket.lengths == leading else bucket.rows, room - taken)
        better = worth + rows * _worth(own, bucket.rows)
        if better >= yields * (padded.overhead + (taken + rows) * padded.per_row):
            taken, worth = taken + rows, better
            yields = worth / (padded.overhead + taken * padded.per_row)
            batch.keys += bucket.keys
    batch.rows, batch.worth, batch.yields = taken, worth, yields


def _worth(sizes: Sizes, waiting: int) -> float:
    """What a row costs in a batch of its own bucket, of which so many rows wait."""
    return sizes.per_row + sizes.overhead / min(sizes.limit, waiting)
