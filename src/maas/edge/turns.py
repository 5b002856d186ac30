"""Turns: how many reads are handled in one pass of the loop, so that a flood does not hold up what was let in.

A request that is let in needs some passes of the loop on its way to the model and back, and a pass hands over every
connection that can be read before anything else runs. With two thousand clients that come back as soon as they are
refused, one pass took as long as an answer may take, and a model that could have been busy stood idle. So a pass handles
`READS` of them, and the others stand in line as bytes.

The line is served in its order while it is short. Where somebody has waited for `_PATIENCE` already it is served from its
end, but for every eighth turn: who has waited long is likely to be late, and who came last can still be answered in time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Protocol

READS = 16
_PATIENCE = 0.04  # seconds
_OLDEST = 8  # of so many turns one is for who has waited longest


class Waiting(Protocol):
    """A connection that has bytes to be looked at."""

    def receive_postponed(self, late: float) -> None:
        """Look at them now, `late` seconds after the first of them came."""


class Turns:
    def __init__(self, reads: int = READS, patience: float = _PATIENCE) -> None:
        self._reads = reads
        self._patience = patience
        self._left = reads
        self._line: OrderedDict[Waiting, float] = OrderedDict()
        self._is_armed = False

    def take(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether one more read is handled in this pass."""
        if not self._is_armed:
            self._is_armed = True
            loop.call_soon(self._begin_pass, loop)
        if not self._left:
            return False
        self._left -= 1
        return True

    def postpone(self, connection: Waiting) -> None:
        """Stand in line; who does already keeps its place."""
        self._line.setdefault(connection, time.monotonic())

    def forget(self, connection: Waiting) -> None:
        self._line.pop(connection, None)

    def _begin_pass(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_armed = False
        self._left = self._reads
        now = time.monotonic()
        while self._line and self.take(loop):
            oldest = next(iter(self._line.values()))
            is_for_oldest = now - oldest < self._patience or self._left % _OLDEST == 0
            connection, since = self._line.popitem(last=not is_for_oldest)
            connection.receive_postponed(now - since)
