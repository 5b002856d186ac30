"""A client of gRPC that is none: HTTP/2 frames over a socket, so that a message can stop half way.

https://www.rfc-editor.org/rfc/rfc9113
"""

from __future__ import annotations

import asyncio
import struct

_DATA, _HEADERS, _RST, _SETTINGS, _GOAWAY, _WINDOW = 0, 1, 3, 4, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_WINDOW_SIZE = 4  # the setting
_FRAME_BYTES = 16_384


class Wire:
    """One connection. `ended` are the streams that the server has ended, `is_closed` says whether it has closed the whole."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next = 1
        self._window = 65_535
        self._streams: dict[int, int] = {}  # their windows
        self._initial = 65_535
        self._has_room = asyncio.Event()
        self.sent = 0  # bytes of messages
        self.ended: set[int] = set()
        self.is_closed = False

    @classmethod
    async def connect(cls, port: int) -> Wire:
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        wire._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
        return wire

    async def listen(self) -> None:
        """Read what the server says, until it closes the connection."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                body = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:9], "big"), body)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_closed = True

    def open(self, path: str) -> int:
        """A call of this method."""
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = self._initial
        named = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "maas"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in named)
        self._writer.write(_frame(_HEADERS, _END_HEADERS, stream, block))
        return stream

    async def send(self, stream: int, data: bytes, of: int | None = None) -> None:
        """A message; or the beginning of one of `of` bytes. Returns when it is sent or the call has ended."""
        data = struct.pack(">BI", 0, len(data) if of is None else of) + data
        while data and stream not in self.ended:
            count = min(len(data), _FRAME_BYTES, self._window, self._streams[stream])
            if count <= 0:
                self._has_room.clear()
                await self._has_room.wait()
                continue
            self._writer.write(_frame(_DATA, 0, stream, data[:count]))
            await self._writer.drain()
            self.sent += count
            self._window -= count
            self._streams[stream] -= count
            data = data[count:]

    def close(self) -> None:
        self._writer.close()

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(body), 6):
                name, value = struct.unpack(">HI", body[at : at + 6])
                if name == _WINDOW_SIZE:
                    self._initial = value
            self._writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _WINDOW and stream == 0:
            self._window += int.from_bytes(body, "big")
        elif kind == _WINDOW:
            self._streams[stream] += int.from_bytes(body, "big")
        elif kind == _RST or (kind == _HEADERS and flags & _END_STREAM):
            self.ended.add(stream)
        elif kind == _GOAWAY:
            self.is_closed = True
        self._has_room.set()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _text(text: str) -> bytes:
    """As HPACK has it, without its tables and its code."""
    return bytes((len(text),)) + text.encode()
