"""Bodies that came compressed, inflated piece by piece, so that what they become is known before it is there."""

from __future__ import annotations

import zlib

from maas.api.codings import GZIP
from maas.errors import InvalidRequest

PIECE = 64 << 10  # bytes
_MOST_MEMBERS = 4096  # of a gzip body: each costs as much to begin as many bytes
_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_METHOD, _ZLIB_CHECK = 8, 31  # of the two bytes that begin a zlib stream (RFC 1950, 2.2)

# How `zlib` is told what stands around the data.
_WITH_GZIP, _WITH_ZLIB, _BARE = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Inflater:
    """Reads `data`, which is `coding`. As "deflate" clients send what zlib writes, as the standard has it, or the bare stream.

    A gzip body may have several members, as files may (RFC 1952, 2.2). Behind the end there may be nothing.
    """

    def __init__(self, data: bytes, coding: str) -> None:
        self._data = memoryview(data)
        self._coding = coding
        self._window = _WITH_GZIP if coding == GZIP else _deflate_window(data)
        self._stream = zlib.decompressobj(self._window)
        self._offset = 0  # of what the stream was not given yet
        self._members = 1

    @property
    def is_done(self) -> bool:
        return self._stream.eof and self._offset == len(self._data)

    def read(self) -> bytes:
        """The next bytes, at most `PIECE`; none where a member has ended. Raises `InvalidRequest` where `data` is not what it is
        said to be."""
        if self._stream.eof:
            self._begin_member()
        stream = self._stream
        given = stream.unconsumed_tail or self._feed()
        try:
            piece = stream.decompress(given, PIECE)
        except zlib.error as error:
            raise self._wrong(str(error)) from None
        if stream.eof:
            self._offset -= len(stream.unused_data)
        elif not piece and not given:
            raise self._wrong("it ends too early")
        return piece

    def _feed(self) -> memoryview:
        start = self._offset
        self._offset = min(start + PIECE, len(self._data))
        return self._data[start : self._offset]

    def _begin_member(self) -> None:
        if self._coding != GZIP or self._data[self._offset :][:2] != _GZIP_MAGIC:
            raise self._wrong("it goes on behind its end")
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise self._wrong(f"it has over {_MOST_MEMBERS} members")
        self._stream = zlib.decompressobj(self._window)

    def _wrong(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"the body is no {self._coding}: {why}")


def _deflate_window(data: bytes) -> int:
    """A bare stream can begin as zlib's does only where it spoils bits that every encoder leaves 0."""
    is_zlib = data[:1] and data[0] & 15 == _ZLIB_METHOD and int.from_bytes(data[:2], "big") % _ZLIB_CHECK == 0
    return _WITH_ZLIB if is_zlib else _BARE
