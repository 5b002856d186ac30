"""Heads that were judged and found right, by their bytes.

A client that asks again sends the same head again, and what the parser and the rules have made of those very bytes once
they would make of them again. So a read that is one of these heads and a body of the length that it says is a request at
once; everything else is for the parser.
"""

from __future__ import annotations

from maas.edge.head import Head

_END = b"\r\n\r\n"
_REMEMBERED = 1024
_REMEMBERED_LENGTH = 2048  # bytes


class Heads:
    """Only what the lane takes, and keeps the connection open, is remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body where `data` is a whole request whose head is known."""
        end = data.find(_END) + 4
        head = self._known.get(data[:end])
        if head is None:
            return None
        body = data[end:]
        return (head, body) if len(body) == head.framing.length else None

    def remember(self, head: Head, data: bytes) -> None:
        """`data` was the head and its whole body, and nothing else."""
        assert head.framing.length is not None
        end = len(data) - head.framing.length
        if end > _REMEMBERED_LENGTH or data.find(_END) + len(_END) != end:
            return
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[data[:end]] = head

    def forget(self) -> None:
        """The rules have changed."""
        self._known.clear()
