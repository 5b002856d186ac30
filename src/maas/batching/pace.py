"""How long batches take, as measured, and how wrong that was: what admission, `Retry-After` and the sizes of batches go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maas.batching.sizes import Sizes, judge, unmeasured
from maas.batching.surface import Surface
from maas.types import CurvePoint

_SMOOTHING = 0.2  # weight of the newest batch
_DEVIATIONS = 2.0  # that answers may be later than they are on average
_HOP = 0.0003  # seconds to the model process and back, which it does not see itself; until a batch has gone that way
_JUDGED_AFRESH = (
    16  # batches for which sizes are judged once: a judgement costs some microseconds for each length
)
_PROBED = 32  # batches of which one may be twice as large as seems worth it, lest a wrong measure stay


class Pace:
    """Seconds by rows and by elements of a row; and what passes between one batch and the next though others wait: answers
    leave, the loop is busy. `largest` is how many rows of so many elements a batch may have."""

    def __init__(self, largest: Callable[[int], int] = lambda _: 32) -> None:
        self._largest = largest
        self._surface = Surface()
        self._sizes: dict[int, Sizes] = {}
        self._observed = 0
        self._between = 0.0
        self._lateness = 0.0
        self._deviation = 0.0

    def learn(self, curve: Sequence[CurvePoint]) -> None:
        """What warm-up has measured, unless batches have shown already how it is."""
        if not self._surface:
            for point in curve:
                self._surface.observe(point.rows, point.elements, point.seconds + _HOP)
            self._sizes.clear()

    def observe(self, rows: int, seconds: float, elements: int = 1) -> None:
        """A batch of `rows`, padded to `elements` each, has taken `seconds`."""
        self._surface.observe(rows, elements, seconds)
        self._observed += 1
        if self._observed % _JUDGED_AFRESH in (0, 1):
            self._sizes.clear()

    def observe_turn(self, rows: int, seconds: float, elements: int = 1) -> None:
        """A batch of `rows` was followed by another `seconds` after it had begun. One that was run in pieces, or again,
        says little of others, so what it adds is bounded by a batch."""
        usual = self.seconds_for(rows, elements)
        between = min(max(0.0, seconds - usual), usual)
        self._between += _SMOOTHING * (between - self._between)

    def turn_of(self, rows: int, elements: int = 1) -> float:
        """The time from the start of a batch of `rows` to the start of the next."""
        return self.seconds_for(rows, elements) + self._between

    def observe_lateness(self, seconds: float) -> None:
        """A batch was answered so much later than was foreseen for its requests; less than 0 where it was earlier."""
        self._lateness += _SMOOTHING * (seconds - self._lateness)
        self._deviation += _SMOOTHING * (abs(seconds - self._lateness) - self._deviation)

    def margin(self, rows: int, elements: int = 1) -> float:
        """Seconds by which an answer may well be later than foreseen; at most the time of a batch of `rows`, so that one
        long stall does not close the door for long."""
        return min(max(0.0, self._lateness + _DEVIATIONS * self._deviation), self.seconds_for(rows, elements))

    def seconds_for(self, rows: int, elements: int = 1) -> float:
        """The time a batch of `rows` takes, by the sizes that have been seen; 0 while none has."""
        return self._surface.seconds_for(rows, elements)

    def longest(self) -> int:
        """The most elements of a row that are known of."""
        return self._surface.longest()

    def sizes(self, elements: int = 1) -> Sizes:
        """How large batches of such rows should be."""
        known = self._sizes.get(elements)
        if known is None:
            known = self._sizes[elements] = self._judge(elements)
        return known

    def _judge(self, elements: int) -> Sizes:
        if not self._surface:
            return unmeasured(elements)
        most = self._largest(elements)
        found = judge(lambda rows: self.turn_of(rows, elements), self._surface.rows_seen(), most)
        if self._observed % _PROBED or not self._observed:
            return found
        return Sizes(min(2 * found.limit, most), found.overhead, found.per_row)
