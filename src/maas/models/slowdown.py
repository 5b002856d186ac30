"""How much slower a new version is than the one that it would take over from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maas.models.live import LiveVersion
from maas.types import CurvePoint

_LEAST = 0.01  # seconds; what is less is noise, or nobody's trouble


def slowdown(fresh: LiveVersion, old: LiveVersion, most: float) -> str:
    """What is to be said of `fresh`, a higher version, where one row takes it over `most` times as long as `old`; else nothing."""
    if fresh.order is None or old.order is None or fresh.order <= old.order:
        return ""
    row = fresh.curve[0]
    before = _seconds_of_row(old.curve, row.elements)
    if row.seconds <= max(before * most, before + _LEAST):
        return ""
    return (
        f"one row takes it {row.seconds * 1e3:.3g} ms, over {most:g} times the "
        f"{before * 1e3:.3g} ms of version {old.version}, which goes on serving (max_slowdown)"
    )


def _seconds_of_row(curve: Sequence[CurvePoint], elements: int) -> float:
    """What one row of so many elements takes: in line between lengths that were measured, beyond the longest in proportion, and
    as long as the shortest where it is shorter yet."""
    rows = sorted((point for point in curve if point.rows == 1), key=lambda point: point.elements)
    longest = rows[-1]
    if elements > longest.elements:
        return longest.seconds * elements / longest.elements
    lengths, seconds = [row.elements for row in rows], [row.seconds for row in rows]
    return float(np.interp(elements, lengths, seconds))
