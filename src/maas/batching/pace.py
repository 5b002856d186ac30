"""How long batches take, as measured, and how wrong that was: what admission and `Retry-After` go by."""

from __future__ import annotations

_SMOOTHING = 0.2  # weight of the newest batch
_DEVIATIONS = 2.0  # that answers may be later than they are on average


class Pace:
    """Seconds by the number of rows, smoothed, in steps of powers of two; and what passes between one batch and the next
    though others wait: answers leave, the loop is busy."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._between = 0.0
        self._lateness = 0.0
        self._deviation = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        step = _step_of(rows)
        known = self._seconds.get(step)
        self._seconds[step] = seconds if known is None else known + _SMOOTHING * (seconds - known)

    def observe_turn(self, rows: int, seconds: float) -> None:
        """A batch of `rows` was followed by another `seconds` after it had begun. One that was run in pieces, or again,
        says little of others, so what it adds is bounded by a batch."""
        usual = self.seconds_for(rows)
        between = min(max(0.0, seconds - usual), usual)
        self._between += _SMOOTHING * (between - self._between)

    def turn_of(self, rows: int) -> float:
        """The time from the start of a batch of `rows` to the start of the next."""
        return self.seconds_for(rows) + self._between

    def observe_lateness(self, seconds: float) -> None:
        """A batch was answered so much later than was foreseen for its requests; less than 0 where it was earlier."""
        self._lateness += _SMOOTHING * (seconds - self._lateness)
        self._deviation += _SMOOTHING * (abs(seconds - self._lateness) - self._deviation)

    def margin(self, rows: int) -> float:
        """Seconds by which an answer may well be later than foreseen; at most the time of a batch of `rows`, so that one
        long stall does not close the door for long."""
        return min(max(0.0, self._lateness + _DEVIATIONS * self._deviation), self.seconds_for(rows))

    def seconds_for(self, rows: int) -> float:
        """The time a batch of `rows` takes, by the nearest size that has been seen; 0 while none has."""
        if not self._seconds:
            return 0.0
        wanted = _step_of(rows)
        nearest = min(self._seconds, key=lambda step: (abs(step - wanted), -step))
        return self._seconds[nearest]


def _step_of(rows: int) -> int:
    return (rows - 1).bit_length()
