"""Makes one call, in a client's own environment: `python -m tests.clients.call FILE FUNCTION HTTP GRPC`.

A call is a public function of a file in `calls/`, plain or async, which is given the server's addresses and asserts.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Addresses:
    """`HOST:PORT` of the server's two sides."""

    http: str
    grpc: str

    @property
    def url(self) -> str:
        return f"http://{self.http}"


def main(file: str, function: str, http: str, grpc: str) -> None:
    result = getattr(import_module(f"tests.clients.calls.{file}"), function)(Addresses(http, grpc))
    if inspect.iscoroutine(result):
        asyncio.run(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
