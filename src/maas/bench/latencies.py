"""Latencies in bounded memory: a histogram whose buckets are 0.1 % wide, after HdrHistogram.

Every power of two of nanoseconds is divided into 1024 equal buckets, from 1 ns to 2.4 hours. What is recorded waits in an
array and is sorted in many at a time, so that recording costs no more than appending.
"""

from __future__ import annotations

import math
from array import array

import numpy as np

_PER_OCTAVE = 1024
_OCTAVES = 43
_PENDING = 1 << 16


class Latencies:
    """`count`, `total` and `max` are exact; percentiles are within 0.05 % of a recorded value."""

    def __init__(self) -> None:
        self._counts = np.zeros(_OCTAVES * _PER_OCTAVE, np.int64)
        self._pending = array("d")
        self._total = 0.0
        self._max = 0.0

    def record(self, seconds: float) -> None:
        self._pending.append(seconds)
        if len(self._pending) >= _PENDING:
            self._fold()

    def add(self, other: Latencies) -> None:
        """Take in all that `other` has recorded."""
        self._fold()
        other._fold()
        self._counts += other._counts
        self._total += other._total
        self._max = max(self._max, other._max)

    @property
    def count(self) -> int:
        self._fold()
        return int(self._counts.sum())

    @property
    def max(self) -> float:
        self._fold()
        return self._max

    @property
    def mean(self) -> float:
        """Seconds; 0 of none."""
        count = self.count
        return self._total / count if count else 0.0

    def percentile(self, percent: float) -> float:
        """The least latency that `percent` of all do not exceed (nearest rank), in seconds; 0 of none."""
        if not self.count:
            return 0.0
        cumulated = np.cumsum(self._counts)
        rank = max(1, math.ceil(percent / 100 * cumulated[-1]))
        return min(_middle(int(np.searchsorted(cumulated, rank))), self._max)

    def _fold(self) -> None:
        if not self._pending:
            return
        seconds = np.frombuffer(self._pending)
        nanoseconds = np.clip(seconds * 1e9, 1.0, 2.0**_OCTAVES - 1)
        mantissas, exponents = np.frexp(nanoseconds)  # n = m × 2^e with ½ ≤ m < 1
        places = ((mantissas - 0.5) * (2 * _PER_OCTAVE)).astype(np.int64) + (exponents - 1) * _PER_OCTAVE
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._total += float(seconds.sum())
        self._max = max(self._max, float(seconds.max()))
        self._pending = array("d")


def _middle(place: int) -> float:
    """Seconds in the middle of a bucket."""
    octave, part = divmod(place, _PER_OCTAVE)
    return math.ldexp(1 + (part + 0.5) / _PER_OCTAVE, octave) * 1e-9
