"""Load on a running server over kept connections, without a client library whose cost would hide the server's."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from tests.edge.sockets import post

PATIENCE = 30.0  # seconds after which a request counts as hanging


@dataclass(frozen=True)
class Reply:
    """One answer, and the seconds since it should have been sent; status 0 where the connection broke."""

    status: int
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Caller:
    """One connection, opened when it is first used."""

    port: int
    host: str = "127.0.0.1"
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, request: bytes, due: float | None = None) -> Reply:
        """Send and read one answer. Raises `TimeoutError` after `PATIENCE`: a request that hangs is a test that fails."""
        due = time.monotonic() if due is None else due
        async with asyncio.timeout(PATIENCE):
            try:
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self.host, self.port)
                reader, writer = self._streams
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
            except (OSError, asyncio.IncompleteReadError):
                self.close()
                return Reply(0, time.monotonic() - due)
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(line.split()[1]), time.monotonic() - due, headers, body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def predict(model: str, values: Sequence[float], *headers: str) -> bytes:
    return post(f"/predict/{model}", json.dumps({"x": list(values)}).encode(), *headers)


async def open_loop(port: int, request: bytes, rate: float, seconds: float) -> list[Reply]:
    """Poisson arrivals, fixed beforehand: who is late is late, and nobody waits for another's answer."""
    generator = random.Random(0)
    idle: list[Caller] = []
    opened: list[Caller] = []
    replies: list[Reply] = []
    started = time.monotonic()

    async def arrive(due: float) -> None:
        if not idle:
            opened.append(Caller(port))
            idle.append(opened[-1])
        caller = idle.pop()
        replies.append(await caller.call(request, due))
        idle.append(caller)

    try:
        async with asyncio.TaskGroup() as group:
            due = started
            while (due := due + generator.expovariate(rate)) < started + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(arrive(due))
    finally:
        for caller in opened:
            caller.close()
    return replies


async def closed_loop(
    port: int, request: bytes, clients: int, goes_on: Callable[[], bool], host: str = "127.0.0.1"
) -> list[list[Reply]]:
    """Each client sends its next request when it has its answer; their replies in their order, client by client."""

    async def call_on() -> list[Reply]:
        caller = Caller(port, host)
        replies = []
        while goes_on():
            replies.append(await caller.call(request))
        caller.close()
        return replies

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call_on()) for _ in range(clients)]
    return [task.result() for task in tasks]


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def percentile(replies: Sequence[Reply], percent: int) -> float:
    """Seconds; of too few replies the worst."""
    seconds = [reply.seconds for reply in replies]
    return quantiles(seconds, n=100)[percent - 1] if len(seconds) > 1 else max(seconds)
