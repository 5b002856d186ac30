"""Warming up: first-time work is done before any caller pays for it, and what batches take is measured.

Sizes 1, 2, 4 … are run in rounds, at some lengths where there are variable dimensions, so that a disturbance falls on all of
them; the first round warms up, and of the others the median counts. Rounds end as soon as they agree, and the whole after
some seconds: what a slow model is not measured at is learnt from its batches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from statistics import median

from maas.errors import OutOfMemory
from maas.runtimes.contract import Runner
from maas.runtimes.golden import GoldenSample, rows_of
from maas.runtimes.self_test import stack_inputs
from maas.tensors.lengths import resize
from maas.types import CurvePoint, Lengths, Signature, Tensors
from maas.workers.failures import translate

_SECONDS = 5.0
_ROUNDS = 6  # the first of which does not count where there is another
_AGREEMENT = 1.1  # between the slowest and the fastest run of a size, within which no further one is needed
_LENGTHS = 4  # of which each is a quarter of the one before, from the longest down


@dataclass(slots=True, eq=False)
class _Size:
    """A batch to measure: `row` as often as there are `rows`."""

    row: Tensors
    rows: int
    elements: int
    is_own: bool
    seconds: list[float] = field(default_factory=list)

    def expected(self, rows: int) -> float:
        """About what a batch of as many rows should take, so that none is begun that would take too long."""
        return min(self.seconds, default=0.0) * rows / self.rows

    @property
    def agrees(self) -> bool:
        return len(self.seconds) > 1 and max(self.seconds) <= min(self.seconds) * _AGREEMENT


def warm_up(
    runner: Runner,
    signature: Signature,
    sample: GoldenSample,
    max_batch_size: int,
    max_batch_cost: int | None = None,
) -> list[CurvePoint]:
    """Seconds by rows and elements of a row. The first point is the sample's first row alone, or the sample where it has
    no rows; what has been run once only, and so may hold first-time work, is left out but for that one.

    Raises whatever the model raises over the sample's own row, but for a batch that does not fit in memory.
    """
    sizes = list(_sizes(signature, sample, max_batch_size, max_batch_cost))
    deadline = time.perf_counter() + _SECONDS
    for _ in range(_ROUNDS):
        before = sizes[0]
        for size in list(sizes):
            if size.row is not before.row:
                before = size
            if (
                size not in sizes
                or size.agrees
                or time.perf_counter() + before.expected(size.rows) > deadline
            ):
                continue
            if _time(runner, signature, size):
                before = size
            else:
                sizes = [other for other in sizes if other.row is not size.row or other.rows < size.rows]
        if all(size.agrees for size in sizes):
            break
    first = sizes[0]
    measured = [first] + [size for size in sizes[1:] if len(size.seconds) > 1]
    return [
        CurvePoint(size.rows, size.elements, median(size.seconds[1:] or size.seconds)) for size in measured
    ]


def _sizes(
    signature: Signature, sample: GoldenSample, max_batch_size: int, max_batch_cost: int | None
) -> Iterator[_Size]:
    """The sample's own row in all sizes first, then at other lengths."""
    if not signature.is_batched:
        yield _Size(sample.inputs, 1, prod(signature.lengths_of(sample.inputs)), True)
        return
    row = rows_of(signature, sample)[0].inputs
    own = signature.lengths_of(row)
    for lengths in [own, *_other_lengths(signature, own)]:
        elements = prod(lengths)
        resized = resize(signature, row, lengths)
        for rows in _row_counts(max_batch_size):
            if rows == 1 or max_batch_cost is None or rows * elements <= max_batch_cost:
                yield _Size(resized, rows, elements, lengths == own)


def _row_counts(most: int) -> list[int]:
    """1, 2, 4 … and `most`."""
    return [1 << step for step in range((most - 1).bit_length())] + [most]


def _other_lengths(signature: Signature, own: Lengths) -> list[Lengths]:
    """Lengths from the longest that is declared down; none where no dimension has a maximum."""
    limits = [signature.limits_of(dim.name) for dim in signature.variable]
    found = [
        tuple(
            length if limit.max is None else max(limit.min, limit.max >> 2 * step)
            for length, limit in zip(own, limits, strict=True)
        )
        for step in range(_LENGTHS)
    ]
    return [lengths for lengths in dict.fromkeys(found) if lengths != own]


def _time(runner: Runner, signature: Signature, size: _Size) -> bool:
    """Run it once; False where it cannot be run, and so nothing larger of its length."""
    inputs = stack_inputs(signature, [size.row] * size.rows)
    started = time.perf_counter()
    try:
        runner.run(inputs)
    except Exception as error:
        if (size.is_own and size.rows == 1) or not (
            isinstance(translate(error), OutOfMemory) or not size.is_own
        ):
            raise
        return (
            False  # smaller ones fit; and nobody has said that the model takes a sample that we made longer
        )
    size.seconds.append(time.perf_counter() - started)
    return True
