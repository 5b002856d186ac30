"""How many seconds a batch takes by its rows and by the elements of a row: measured at some points, corrected by what comes.

Elements are the product of a row's variable lengths, 1 where there are none. Between points it is linear in both; beyond the
last row count the nearest point holds, beyond the last length it is in proportion. A point is kept for each power of two that
was seen, at the very size that was seen there first; what comes later corrects it by its share.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

_SMOOTHING = 0.2  # weight of the newest batch, but for the first few


@dataclass(slots=True)
class _Point:
    rows: int
    seconds: float
    seen: int = 1


class _Profile:
    """Points for one length, in the order of their rows."""

    def __init__(self, elements: int) -> None:
        self.elements = elements
        self.points: list[_Point] = []

    def seconds_for(self, rows: int) -> float:
        points = self.points
        if rows <= points[0].rows:
            return points[0].seconds
        if rows >= points[-1].rows:
            return points[-1].seconds
        place = bisect_left(points, rows, key=lambda point: point.rows)
        low, high = points[place - 1], points[place]
        return low.seconds + (high.seconds - low.seconds) * (rows - low.rows) / (high.rows - low.rows)

    def observe(self, rows: int, share: float, seconds: float) -> None:
        """A batch took `seconds`, `share` times what was expected."""
        step = _step_of(rows)
        for point in self.points:
            if _step_of(point.rows) == step:
                weight = max(_SMOOTHING, 1 / (1 + point.seen))
                point.seconds *= 1 + weight * (share - 1)
                point.seen += 1
                return
        self.points.append(_Point(rows, seconds))
        self.points.sort(key=lambda point: point.rows)


class Surface:
    def __init__(self) -> None:
        self._profiles: list[_Profile] = []

    def __bool__(self) -> bool:
        return bool(self._profiles)

    def rows_seen(self) -> Sequence[int]:
        """Row counts at which there are points."""
        return sorted({point.rows for profile in self._profiles for point in profile.points})

    def longest(self) -> int:
        """The most elements of a row that were seen; 1 where none were."""
        return self._profiles[-1].elements if self._profiles else 1

    def seconds_for(self, rows: int, elements: int = 1) -> float:
        """0 while nothing has been seen."""
        profiles = self._profiles
        if not profiles:
            return 0.0
        place = bisect_left(profiles, elements, key=lambda profile: profile.elements)
        if place == len(profiles) or place == 0:
            nearest = profiles[min(place, len(profiles) - 1)]
            return nearest.seconds_for(rows) * elements / nearest.elements
        low, high = profiles[place - 1], profiles[place]
        lower, higher = low.seconds_for(rows), high.seconds_for(rows)
        return lower + (higher - lower) * (elements - low.elements) / (high.elements - low.elements)

    def observe(self, rows: int, elements: int, seconds: float) -> None:
        profile = self._profile_for(elements)
        expected = self.seconds_for(rows, elements) if profile.points else 0.0
        share = seconds / expected if expected else 1.0
        profile.observe(rows, share, seconds * profile.elements / elements)

    def _profile_for(self, elements: int) -> _Profile:
        """The profile of the same power of two; a new one begins as its neighbours have it."""
        step = _step_of(elements)
        for profile in self._profiles:
            if _step_of(profile.elements) == step:
                return profile
        fresh = _Profile(elements)
        fresh.points = [_Point(rows, self.seconds_for(rows, elements)) for rows in self.rows_seen()]
        self._profiles.append(fresh)
        self._profiles.sort(key=lambda profile: profile.elements)
        return fresh


def _step_of(number: int) -> int:
    return (number - 1).bit_length()
