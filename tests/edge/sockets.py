"""Raw sockets: bytes out, and whatever comes back until the server closes or falls silent."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

BODY = b'{"x": [1, 2]}'


@dataclass(frozen=True)
class Reply:
    """One answer: its status, headers by lower-case name, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_last(self) -> bool:
        return self.headers.get("connection") == "close"


class Raw:
    """A client that sends exactly what it is told."""

    def __init__(self, port: int, seconds: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._buffer = b""
        self._is_closed = False

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> Raw:
        """Send; that the server has had enough of it is no error here."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)
        return self

    def read(self) -> Reply | None:
        """The next answer, or None where the connection was closed instead."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = {}
        for header in rest:
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        status = int(line.split()[1])
        if status == 100:
            return Reply(100, headers, b"")
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            if not self._receive():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Reply(status, headers, body)

    def read_all(self) -> list[Reply]:
        """Every answer until the connection is closed."""
        replies = []
        while (reply := self.read()) is not None:
            replies.append(reply)
        return replies

    def read_until(self, end: bytes) -> bytes:
        """All bytes up to `end`, or to the end of the connection."""
        while end not in self._buffer and self._receive():
            pass
        return self._buffer

    def is_closed_within(self, seconds: float) -> float:
        """Seconds until the server closed, without an answer."""
        started = time.monotonic()
        self._socket.settimeout(seconds)
        assert self._socket.recv(1) == b""
        return time.monotonic() - started

    def is_open(self) -> bool:
        """Whether the connection still answers."""
        reply = self.send(get("/v2/health/live")).read()
        return reply is not None and reply.status == 200

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._buffer += data
        return bool(data)


def request(head: str, body: bytes = b"") -> bytes:
    """`head` in lines, as they are; their ends and the empty line are put in."""
    return head.strip("\n").replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    return request(f"GET {path} HTTP/1.1\nHost: localhost")


def post(path: str, body: bytes = BODY, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return request("\n".join(lines), body)
