"""Which lengths share a batch: padding is work, and so is one more batch; what is measured says which is more.

What a request is worth is what it costs if it is left for a batch of its own bucket, with those that wait there now: the work
of its rows and its share of what every batch costs. A batch is the better the more of such cost it takes away for the time
that it takes. Each length from the leading request's up is tried as the longest of the batch, filled from there down with
what makes it better; as soon as padding the leading request alone costs more than a batch does, none longer is tried. A
box that is hardly larger than the last is not tried; and where requests have several lengths, so that there may be a bucket
for nearly each, only the nearest are thought of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nsmallest
from math import prod
from typing import Generic, TypeVar

from maas.batching.sizes import Sizes
from maas.types import Lengths

_NEAREST = 32  # buckets that a batch of several lengths is made of at most
_LARGER = 9 / 8  # times the last box, at least, is one that is tried

K = TypeVar("K")


class Bucket(Generic[K]):
    """What waits of one bucket of `lengths`: its rows in all, and the groups that hold them in the order of their turns."""

    __slots__ = ("elements", "keys", "lengths", "rows")

    def __init__(self, lengths: Lengths, rows: int, keys: list[K]) -> None:
        self.lengths = lengths
        self.elements = prod(lengths)
        self.rows = rows
        self.keys = keys


class _Candidate(Generic[K]):
    """A bucket as one may think of it: the rows that may still join, what each is worth, and what it would cost alone."""

    __slots__ = ("alone", "box", "bucket", "rows", "worth")

    def __init__(self, bucket: Bucket[K], leading: Lengths, leading_rows: int, sizes: Sizes) -> None:
        self.bucket = bucket
        self.box = tuple(map(max, bucket.lengths, leading))
        self.rows = bucket.rows - leading_rows if bucket.lengths == leading else bucket.rows
        self.worth = _worth(sizes, bucket.rows)
        self.alone = sizes.overhead + sizes.per_row


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
    candidates = [
        _Candidate(bucket, leading, leading_rows, sizes(bucket.elements))
        for bucket in _nearest(buckets, leading)
    ]
    worth = leading_rows * _worth(size, own.rows)
    best: tuple[float, int, Sequence[K]] = (-1.0, own.elements, own.keys)
    tried = 0.0
    for box, place in _boxes(candidates, leading):
        elements = prod(box)
        if elements < tried * _LARGER:
            continue
        larger = sizes(elements)
        if tried and leading_rows * (larger.per_row - size.per_row) > larger.overhead:
            break
        tried = elements
        yields, keys = _fill(candidates[place::-1], box, leading_rows, worth, most(elements), larger)
        if yields > best[0]:
            best = yields, elements, keys
    return best[1:]


def _nearest(buckets: Sequence[Bucket[K]], leading: Lengths) -> Sequence[Bucket[K]]:
    """Those that pad, or are padded, the least beside the leading request, sorted by the elements of the box for both."""
    if len(leading) == 1:
        return buckets
    boxes = [(prod(map(max, bucket.lengths, leading)), bucket.elements, bucket) for bucket in buckets]
    nearest = nsmallest(_NEAREST, boxes, key=lambda box: 2 * box[0] - box[1])
    return [bucket for _, _, bucket in sorted(nearest, key=lambda box: box[:2])]


def _boxes(candidates: Sequence[_Candidate[K]], leading: Lengths) -> list[tuple[Lengths, int]]:
    """What a batch may be padded to, the leading request's own lengths first, with the last candidate that may fit in: that of
    each candidate, and the one that holds them all."""
    boxes = {candidate.box: place for place, candidate in enumerate(candidates)}
    if len(leading) > 1:
        boxes.setdefault(tuple(map(max, *boxes, leading)), len(candidates) - 1)
    return list(boxes.items())


def _fill(
    candidates: Sequence[_Candidate[K]],
    box: Lengths,
    leading_rows: int,
    worth: float,
    room: int,
    padded: Sizes,
) -> tuple[float, Sequence[K]]:
    """Add what fits into `box` and makes the batch better, the longest first: what it then yields in a second, and of whom."""
    overhead, per_row = padded.overhead, padded.per_row
    taken = leading_rows
    yields = worth / (overhead + taken * per_row)
    keys: list[K] = []
    for candidate in candidates:
        if taken >= room:
            break
        if len(box) == 1 and candidate.alone < yields * per_row:
            break  # not even one that waits alone would be worth its padding, and so none that is shorter
        if len(box) > 1 and not _fits(candidate.box, box):
            continue
        rows = min(candidate.rows, room - taken)
        better = worth + rows * candidate.worth
        if better >= yields * (overhead + (taken + rows) * per_row):
            taken, worth = taken + rows, better
            yields = worth / (overhead + taken * per_row)
            keys += candidate.bucket.keys
    return yields, keys


def _fits(lengths: Lengths, box: Lengths) -> bool:
    return all(length <= limit for length, limit in zip(lengths, box, strict=True))


def _worth(sizes: Sizes, waiting: int) -> float:
    """What a row costs in a batch of its own bucket, of which so many rows wait."""
    return sizes.per_row + sizes.overhead / min(sizes.limit, waiting)
