"""HTTP/1.1 by hand: what the load generator can afford thousands of times a second, and what sees every byte."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODE = re.compile(rb'"code": ?"([a-z_]+)"')
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """`head` runs from the status line to the last header, without the empty line."""

    status: int
    head: bytes
    body: bytes

    @property
    def is_last(self) -> bool:
        """Whether the server closes the connection behind it."""
        return _CLOSE.search(self.head) is not None

    @property
    def code(self) -> str:
        """What the body of an error says of itself; empty where it does not."""
        found = _CODE.search(self.body) if self.status != 200 else None
        return found[1].decode() if found else ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        found = re.search(rb"\r\n%b: *([^\r]*)" % re.escape(name.encode()), self.head, re.IGNORECASE)
        return found[1].decode("latin-1") if found else None


def parse_answer(data: bytes) -> tuple[Answer, bytes] | None:
    """The first answer in `data` and what follows it; None while it is not whole. Bodies have a length, never chunks."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end]
    status = int(head[9:12])
    length = _LENGTH.search(head)
    if length is None and status != 204 and status >= 200:
        raise ValueError(f"an answer without a length: {head!r}")
    stop = end + 4 + (int(length[1]) if length else 0)
    if len(data) < stop:
        return None
    return Answer(status, head, data[end + 4 : stop]), data[stop:]


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: object, **headers: object) -> bytes:
    """`body` as JSON, or as it is where it is bytes; a header's name has its underscores turned to hyphens."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(content)}\r\n\r\n")
    return "\r\n".join(lines).encode() + content


class Connection:
    """One blocking keep-alive connection."""

    def __init__(self, port: int, seconds: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Answer:
        """The next answer. Raises `ConnectionError` where the server closes instead, `TimeoutError`."""
        while (parsed := parse_answer(self._data)) is None:
            received = self.socket.recv(1 << 18)
            if not received:
                raise ConnectionError("closed without an answer")
            self._data += received
        answer, self._data = parsed
        return answer

    def close(self) -> None:
        self.socket.close()


def call(port: int, request: bytes, seconds: float = 30.0) -> Answer:
    """One request on a connection of its own."""
    with connections(port, 1, seconds) as (connection,):
        connection.send(request)
        return connection.read()


@contextmanager
def connections(port: int, count: int, seconds: float = 30.0) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Connection(port, seconds))) for _ in range(count)]


def timed(connection: Connection, request: bytes) -> tuple[Answer, float]:
    """The answer, and seconds from the request's first byte to the answer's last."""
    started = time.perf_counter()
    connection.send(request)
    answer = connection.read()
    return answer, time.perf_counter() - started
