"""Bodies that come compressed: inflated on a thread, and never to more than a body may have."""

from __future__ import annotations

import asyncio
import zlib

from maas.errors import InvalidRequest, TooLarge

# How `zlib` is told what stands around the data: `deflate` on the web is what zlib itself writes.
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}

ENCODINGS = frozenset(_WINDOWS)


async def inflate(data: bytes, encoding: str, limit: int) -> bytes:
    """Raises `TooLarge` where more than `limit` bytes come out, and `InvalidRequest` where `data` is not so encoded."""
    return await asyncio.to_thread(_inflate, data, encoding, limit)


def _inflate(data: bytes, encoding: str, limit: int) -> bytes:
    inflater = zlib.decompressobj(_WINDOWS[encoding])
    try:
        inflated = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the body is no {encoding}: {error}") from None
    if len(inflated) > limit:
        raise TooLarge(f"the body has more than {limit} bytes when inflated, which is the limit")
    if not inflater.eof or inflater.unused_data:
        raise InvalidRequest(f"the body is no {encoding}: it ends too early, or goes on behind its end")
    return inflated
