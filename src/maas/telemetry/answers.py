"""What was measured of a version's answered requests: kept as it comes, and counted many at a time."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from maas.batching.request import Timings
from maas.telemetry.histogram import KEPT, LATENCY_BUCKETS, Histogram

_queue = attrgetter("queue")
_input = attrgetter("input")
_compute = attrgetter("compute")
_output = attrgetter("output")
_rows = attrgetter("rows")


@dataclass(slots=True)
class Answered:
    """How many requests, their rows, and seconds of all: in `total`, and in the parts of them that `Timings` has."""

    count: int = 0
    rows: int = 0
    total: float = 0.0
    queue: float = 0.0
    input: float = 0.0
    compute: float = 0.0
    output: float = 0.0


class Answers:
    """`overhead` is what of a request's seconds was neither queue nor compute."""

    __slots__ = ("_counted", "_kept", "overhead")

    def __init__(self) -> None:
        self.overhead = Histogram(LATENCY_BUCKETS)
        self._counted = Answered()
        self._kept: list[tuple[Timings, float]] = []  # not counted yet

    def keep(self, timings: Timings, total: float) -> None:
        """A request was answered after `total` seconds."""
        kept = self._kept
        kept.append((timings, total))
        if len(kept) >= KEPT:
            self._count_kept()

    def counted(self) -> Answered:
        """All that were answered so far."""
        if self._kept:
            self._count_kept()
        return self._counted

    def _count_kept(self) -> None:
        kept = [timings for timings, _ in self._kept]
        totals = np.array([total for _, total in self._kept])
        queue, compute = np.array([*map(_queue, kept)]), np.array([*map(_compute, kept)])
        self.overhead.keep_all(np.maximum(totals - queue - compute, 0.0).tolist())
        counted = self._counted
        counted.count += len(kept)
        counted.rows += sum(map(_rows, kept))
        counted.total += float(totals.sum())
        counted.queue += float(queue.sum())
        counted.input += sum(map(_input, kept))
        counted.compute += float(compute.sum())
        counted.output += sum(map(_output, kept))
        self._kept.clear()
