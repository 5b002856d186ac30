"""What callers make gRPC hold beside requests: messages of which a part is still to come, and answers that nobody takes.

gRPC says neither how long a message will be nor how much of it is there, so each counts as one of the longest. An answer that is
being written cannot be taken back, so while too many are, nobody is asked for more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc.aio

from maas.errors import InvalidRequest, QueueFull

_RETRY_SECONDS = 1.0
_MOMENT = 1.0  # seconds in which any message may come in, however many do


@dataclass(frozen=True, slots=True)
class HeldStatistics:
    messages: int  # that are coming in
    streams: int
    answers: int  # bytes


class Held:
    """Both are bounded by `most_bytes`, of messages of `message_bytes` at most. There are at most `most_streams` streams, each of
    which may wait for a message as long as it likes."""

    def __init__(self, most_bytes: int, message_bytes: int, most_streams: int) -> None:
        self._most_bytes = most_bytes
        self._most_messages = max(1, most_bytes // message_bytes)
        self._most_streams = most_streams
        self._streams = 0
        self._answers = 0  # bytes
        self._look: asyncio.TimerHandle | None = None
        self._reading: dict[asyncio.Task[object], float] = {}  # since when, the oldest first

    async def read(self, context: grpc.aio.ServicerContext) -> bytes:
        """The one message of a call. Raises `QueueFull` where more are coming in than may be and this is the oldest of them."""
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = time.monotonic()
        if self._look is None:
            self._look_later()
        try:
            data = await context.read()
        except asyncio.CancelledError:
            if task in self._reading:
                raise
            task.uncancel()
            raise QueueFull(self._slow(), retry_after=_RETRY_SECONDS) from None
        finally:
            self._reading.pop(task, None)
        if data is grpc.aio.EOF:
            raise InvalidRequest("the call has no message")
        assert isinstance(data, bytes)
        return data

    @contextmanager
    def stream(self) -> Iterator[None]:
        """While it is open. Raises `QueueFull` where there are too many."""
        if self._streams >= self._most_streams:
            many = f"the server has {self._streams} streams; it takes {self._most_streams}"
            raise QueueFull(many, retry_after=_RETRY_SECONDS)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def hold(self, nbytes: int) -> None:
        """Of an answer that is made and not yet taken."""
        self._answers += nbytes

    def let_go(self, nbytes: int) -> None:
        self._answers -= nbytes

    @contextmanager
    def unsent(self) -> Iterator[Unsent]:
        """For the answers of one stream; what of them is not taken when it ends never will be."""
        unsent = Unsent(self)
        try:
            yield unsent
        finally:
            unsent.let_go(unsent.nbytes)

    def check_answers(self) -> None:
        """Raise `QueueFull` where callers do not take the answers that there are."""
        if self._answers > self._most_bytes:
            many = f"callers have not taken {self._answers} bytes of answers; the server holds {self._most_bytes}"
            raise QueueFull(many, retry_after=_RETRY_SECONDS)

    def statistics(self) -> HeldStatistics:
        return HeldStatistics(len(self._reading), self._streams, self._answers)

    def _make_room(self) -> None:
        """Of those that are no more of this moment, the oldest give way."""
        before = time.monotonic() - _MOMENT
        slow = [task for task, since in self._reading.items() if since <= before]
        for task in slow[: -self._most_messages]:
            del self._reading[task]
            task.cancel()
        self._look_later()

    def _look_later(self) -> None:
        self._look = None
        if len(self._reading) > self._most_messages:
            self._look = asyncio.get_running_loop().call_later(_MOMENT, self._make_room)

    def _slow(self) -> str:
        return f"over {self._most_messages} messages were coming in slowly, and this one for the longest time"


class Unsent:
    """Answers of one stream that are made and not yet taken."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.nbytes = 0

    def hold(self, nbytes: int) -> None:
        self.nbytes += nbytes
        self._held.hold(nbytes)

    def let_go(self, nbytes: int) -> None:
        self.nbytes -= nbytes
        self._held.let_go(nbytes)
