"""How large a batch should be, by what batches of different sizes took.

Throughput is rows in a second. A batch is cut at the smallest size beyond which throughput does not rise: not by a margin, at
none of at least two larger sizes; or where there is but one larger, it clearly falls. One measurement that is off makes no cut: a size counts for no more than the middle one of
itself and its two neighbours, and any larger size that does better prevents it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

_MARGIN = 1.03  # throughput that rises by less does not rise: medians of a few runs differ by that much
_FALL = 1.15  # that is clear though one size alone shows it, as when the largest batch does not fit a cache any more


@dataclass(frozen=True, slots=True)
class Sizes:
    """For rows of one length: `limit`, the rows up to which batches are worth making larger; and what a batch of so many
    rows takes, `overhead` + rows × `per_row`, near enough to compare one batch with another."""

    limit: int
    overhead: float
    per_row: float


def unmeasured(elements: int) -> Sizes:
    """Before anything is known: work is in proportion to length, and a batch costs as much as one row more."""
    return Sizes(1 << 16, float(elements), float(elements))


def judge(seconds_for: Callable[[int], float], rows: Sequence[int], most: int) -> Sizes:
    """What `seconds_for` says at `rows`, which rise, of batches of at most `most`."""
    known = [count for count in rows if count <= most]
    if not known:
        known = [min(rows[0], most)]
    limit = _limit(known, [seconds_for(count) for count in known], most)
    first, last = seconds_for(1), seconds_for(limit)
    if limit == 1:
        return Sizes(1, 0.0, first)
    # A batch takes no less for more rows, whatever a noisy measurement says, nor more for each than they take alone.
    per_row = min(max((last - first) / (limit - 1), 0.0), last / limit)
    return Sizes(limit, max(last - limit * per_row, 0.0), per_row)


def _limit(rows: Sequence[int], seconds: Sequence[float], most: int) -> int:
    raw = [count / max(time, 1e-9) for count, time in zip(rows, seconds, strict=True)]
    for place in range(len(raw) - 1):
        larger = raw[place + 1 :]
        least = min(raw[place], _middle(raw, place))
        if max(larger) < (least * _MARGIN if len(larger) > 1 else least / _FALL):
            return rows[place]
    return most


def _middle(rates: Sequence[float], place: int) -> float:
    """The middle one of three neighbours; at the ends there are two further ones on one side."""
    first = min(max(place - 1, 0), max(len(rates) - 3, 0))
    return median(rates[first : first + 3])
