"""An event loop whose clock jumps to the next timer: hours of waiting take no time, and always the same order."""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """When nothing is ready, time moves to the earliest timer; where there is none, the test waits for what never comes."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            self._timer_cancelled_count = max(0, self._timer_cancelled_count - 1)
        if not self._ready:
            if not self._scheduled:
                raise RuntimeError("deadlock: nothing is ready and no timer is set")
            self._now = max(self._now, self._scheduled[0].when())
        super()._run_once()


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on a loop with a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(coroutine)
