"""Answers that leave together, at the end of a pass of the loop.

A write wakes the client, if it sleeps, and one that has been woken finds nothing more to read and sleeps again before the
next answer is written. When the answers of a batch leave in one go most of them find their client awake, and what is
several times the price of the write itself is paid once for the batch.
"""

from __future__ import annotations

import asyncio


class Outbox:
    """Keeps order by being flushed before anything else is done with a transport."""

    def __init__(self) -> None:
        self._answers: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, answer: bytes) -> None:
        if not self._answers:
            loop.call_soon(self.flush)
        self._answers.append((transport, answer))

    def flush(self) -> None:
        answers, self._answers = self._answers, []
        for transport, answer in answers:
            if not transport.is_closing():  # whose client has left meanwhile takes nothing from the others
                transport.write(answer)
