"""A bound on what waits over all models of the server, in requests and in bytes; large bodies count from when they are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backlog:
    """Shared by all batchers; each adds what it queues and takes away what leaves its queue."""

    max_requests: int
    max_bytes: int
    requests: int = 0
    nbytes: int = 0

    def refusal(self, nbytes: int = 0) -> str | None:
        """Why a request with `nbytes` of inputs does not fit, or None where it does."""
        if self.requests >= self.max_requests:
            return f"the server has {self.requests} requests waiting; it holds {self.max_requests}"
        if self.nbytes + nbytes > self.max_bytes:
            return f"the server has {self.nbytes} bytes waiting and the request has {nbytes}; it holds {self.max_bytes}"
        return None

    def add(self, nbytes: int) -> None:
        self.requests += 1
        self.nbytes += nbytes

    def remove(self, requests: int, nbytes: int) -> None:
        self.requests -= requests
        self.nbytes -= nbytes

    def hold(self, nbytes: int) -> None:
        """Bytes that belong to no request in a queue yet."""
        self.nbytes += nbytes

    def let_go(self, nbytes: int) -> None:
        self.nbytes -= nbytes
