"""Compressed bodies both ways: small ones here and now, the others on threads, where zlib gives up the interpreter's lock.

It goes piece by piece, so that nobody waits behind a large one, a caller that leaves takes the rest with it, and what a body
inflates to counts against what the server may hold while it grows. The numbers are in `docs/decisions/compression.md`.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from maas.api.body import Body
from maas.api.codings import GZIP, Accepted
from maas.api.errors import UnsupportedCoding
from maas.api.inflating import PIECE, Inflater
from maas.api.operation import Payload

WORTH = (
    64 << 10
)  # bytes of JSON from which an answer is compressed for a caller that takes, but does not ask for it
AT_ONCE = 16 << 10  # bytes that are compressed, or inflated, where they are
_STRIDE = 1 << 20  # bytes that a thread makes, or compresses, at a time
_THREADS = 2
_MOST_AT_ONCE = 8  # answers that are being compressed, each of which takes 256 KiB beside what it makes
_LEVEL = 1

T = TypeVar("T")


class Compressor:
    """While it `is_on` answers are compressed for callers that accept it, and bodies may come compressed."""

    def __init__(self, *, is_on: bool = True) -> None:
        self.is_on = is_on
        self._threads = ThreadPoolExecutor(_THREADS, "maas-zlib")
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check(self, codings: tuple[str, ...]) -> None:
        """Raise `UnsupportedCoding` where a body may not come so compressed."""
        if codings and not self.is_on:
            message = f"content encoding {codings[-1]!r} is not read here: `server.compression` is off"
            raise UnsupportedCoding(message, readable="identity")

    async def inflate(self, body: Body, codings: tuple[str, ...], limit: int) -> None:
        """Leave in `body` what it holds when `codings` are undone. Raises `TooLarge` where that is over `limit` bytes, `QueueFull`
        where the server holds too many, and `InvalidRequest` where it is not so encoded."""
        for coding in codings:
            data = body.reopen()
            inflater = Inflater(data, coding)
            if len(data) <= AT_ONCE:
                body.add(inflater.read(), limit)
            while not inflater.is_done:
                # Joined here, for what a thread allocates for long stays in a heap of its own, which shrinks badly.
                body.add(b"".join(await self._run(_read_pieces, inflater)), limit)
            body.settle()

    def suits(self, accepted: Accepted, payload: Payload) -> bool:
        """Whether an answer is to be compressed. Raw tensors shrink little, and are so for those alone who ask for nothing else."""
        is_worth = payload.json_size is None and len(payload.data) >= WORTH
        return self.is_on and (accepted.is_sole or is_worth)

    async def compress(self, payload: Payload, coding: str) -> Payload:
        """`payload` compressed. What is raised by cancellation leaves no more than one piece to a thread."""
        if is_short(payload):
            return compressed(payload, coding)
        async with self._slots:
            stream = _stream_of(coding)
            data = memoryview(payload.data)
            starts = range(0, len(data), _STRIDE)
            parts = [await self._run(stream.compress, data[start : start + _STRIDE]) for start in starts]
            parts.append(await self._run(stream.flush))
        return Payload(b"".join(parts), payload.json_size, coding)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def is_short(payload: Payload) -> bool:
    """Whether compressing it takes less than handing it to a thread and back is worth."""
    return len(payload.data) <= AT_ONCE


def compressed(payload: Payload, coding: str) -> Payload:
    stream = _stream_of(coding)
    return Payload(stream.compress(payload.data) + stream.flush(), payload.json_size, coding)


def _stream_of(coding: str) -> zlib._Compress:
    """`deflate` on the web is what zlib itself writes."""
    window = zlib.MAX_WBITS | 16 if coding == GZIP else zlib.MAX_WBITS
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, window)


def _read_pieces(inflater: Inflater) -> list[bytes]:
    pieces: list[bytes] = []
    while len(pieces) < _STRIDE // PIECE and not inflater.is_done:
        pieces.append(inflater.read())
    return pieces
