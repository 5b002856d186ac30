"""Reading HTTP/1.1 answers as far as a load generator must: their status, where they end, whether the connection stays.

Follows RFC 9112 §6 for the length of a body: none after 1xx, 204 and 304, else chunked, else `Content-Length`, else up
to the end of the connection. Bodies are skipped, never kept. There is one request under way on a connection, so bytes beyond
an answer are an error.
"""

from __future__ import annotations

import re

_MOST_HEAD = 1 << 16  # bytes of a head, or of one line among chunks
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?:\r\n|$)")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*(?:\r\n|$)")
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*close")
_KEEP = re.compile(rb"\r\nconnection:[^\r]*keep-alive")


class AnswerScanner:
    """Fed with what a connection brings. `keeps_alive` says of the last answer whether another request may follow it."""

    __slots__ = ("_chunks", "_held", "_is_last_chunk", "_missing", "_status", "keeps_alive")

    def __init__(self) -> None:
        self._held = b""
        self._status = 0  # of the answer whose body is being read
        self._missing: int | None = (
            0  # bytes of the body, or of a chunk with its line's end; None: up to the end
        )
        self._chunks = False
        self._is_last_chunk = False
        self.keeps_alive = True

    def feed(self, data: bytes) -> int:
        """The status of the answer that `data` completes, or 0. Raises `ValueError` for what is no answer."""
        while not self._status:
            data = self._held + data if self._held else data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._hold(data)
                return 0
            self._held = b""
            self._read_head(data[:end])
            data = data[end + 4 :]
        if self._chunks:
            return self._skip_chunks(data)
        if self._missing is None:
            return 0
        self._missing -= len(data)
        return 0 if self._missing > 0 else self._complete(-self._missing)

    def end(self) -> int:
        """The connection has ended: the status of the answer that this completes, or 0."""
        return self._complete(0) if self._status and self._missing is None else 0

    def _read_head(self, head: bytes) -> None:
        if head[:7] != b"HTTP/1." or not head[9:12].isdigit():
            raise ValueError(f"{head[:40]!r} is no HTTP answer")
        status = int(head[9:12])
        if status < 200:
            return
        head = head.lower()
        self._status = status
        is_old = head[7:8] == b"0"
        self.keeps_alive = _KEEP.search(head) is not None if is_old else _CLOSE.search(head) is None
        if status in (204, 304):
            self._missing = 0
        elif (length := _LENGTH.search(head)) is not None:
            self._missing = int(length[1])
        elif _CHUNKED.search(head) is not None:
            self._chunks, self._missing = True, 0
        else:
            self._missing, self.keeps_alive = None, False

    def _skip_chunks(self, data: bytes) -> int:
        data = self._held + data if self._held else data
        self._held = b""
        at = 0
        while True:
            assert self._missing is not None
            step = min(self._missing, len(data) - at)
            self._missing -= step
            at += step
            end = data.find(b"\r\n", at)
            if self._missing or end < 0:
                self._hold(data[at:])
                return 0
            line = data[at:end]
            at = end + 2
            if not self._is_last_chunk:
                self._begin_chunk(line)
            elif not line:
                return self._complete(len(data) - at)

    def _begin_chunk(self, line: bytes) -> None:
        size = int(line.partition(b";")[0], 16)
        if size < 0:
            raise ValueError(f"{line[:40]!r} is no size of a chunk")
        self._is_last_chunk = size == 0
        self._missing = size + 2 if size else 0

    def _hold(self, data: bytes) -> None:
        if len(data) > _MOST_HEAD:
            raise ValueError(f"a head has over {_MOST_HEAD} bytes")
        self._held = data

    def _complete(self, surplus: int) -> int:
        if surplus:
            raise ValueError(f"{surplus} bytes more came than the answer has")
        status, self._status = self._status, 0
        self._missing, self._chunks, self._is_last_chunk = 0, False, False
        return status
