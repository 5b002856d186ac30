"""A limit on batches that run at once over all models, so that they do not thrash each other's cores."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

Turn = Callable[[], None]
"""A batcher, by the function that tells it that its turn has come."""


class Permits:
    """`limit` permits. A batcher that finds none is called in its turn, with a permit kept for it until it acquires
    or forgoes it; so a busy model cannot overtake a waiting one for ever."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit  # below 0 while more are out than a limit that was lowered allows
        self._waiting: OrderedDict[Turn, None] = OrderedDict()
        self._kept: set[Turn] = set()

    def acquire(self, turn: Turn) -> bool:
        """Take a permit; if none is free, False, and `turn` is called when one is."""
        if turn in self._kept:
            self._kept.remove(turn)
            return True
        if self._free > 0:
            self._free -= 1
            return True
        self._waiting[turn] = None
        return False

    def release(self) -> None:
        """Give a permit back, to who has waited longest."""
        self._free += 1
        self._hand_out()

    def forgo(self, turn: Turn) -> None:
        """Want none: give back a permit that was kept, or leave the line."""
        self._waiting.pop(turn, None)
        if turn in self._kept:
            self._kept.remove(turn)
            self.release()

    def resize(self, limit: int) -> None:
        """Have `limit` permits. Where more are out, as many are not given again when they come back."""
        self._free += limit - self._limit
        self._limit = limit
        self._hand_out()

    def _hand_out(self) -> None:
        """Keep what is free for those who have waited longest."""
        while self._free > 0 and self._waiting:
            self._free -= 1
            turn, _ = self._waiting.popitem(last=False)
            self._kept.add(turn)
            turn()
