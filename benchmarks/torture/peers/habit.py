"""The habits of `models.Habit` on plain lists, for environments that hold neither maas nor NumPy."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence

from benchmarks.torture.ledger import write_run

_RAISES, _CRASHES = -1.0, -2.0


def run(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Twice [milliseconds, number] of each row, after the most milliseconds of the batch, whatever its size."""
    write_run([number for _, number in rows])
    habits = [habit for habit, _ in rows]
    if _RAISES in habits:
        raise RuntimeError("this row raises")
    if _CRASHES in habits:
        ctypes.string_at(0)
    time.sleep(max(0.0, *habits) / 1e3)
    return [[2 * habit, 2 * number] for habit, number in rows]
