"""The load generator: `python -m benchmarks.torture.generator FILE`, told its load on standard input.

Open loop: requests go out when they are due, whatever the server does, each on a free connection or on a new one.
Closed loop: so many clients, each sending again as soon as it is answered. It says `ready` when its connections are
open, and writes a trace into FILE at the end.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import uvloop
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.recorder import Pending, Recorder
from benchmarks.torture.schedule import poisson_arrivals
from benchmarks.torture.trace import Trace
from benchmarks.torture.wire import Answer, parse_answer

_LEAD = 0.05  # seconds before the first request is due
_TICK = 0.001  # seconds: what timers can tell apart


class Connection(asyncio.Protocol):
    """Has one request on its way at a time. Tells `on_answer` of each answer, and None where there will be none."""

    def __init__(self, number: int, on_answer: Callable[[Connection, Pending, Answer | None], None]) -> None:
        self.number = number
        self.is_open = False
        self.pending: Pending | None = None
        self._on_answer = on_answer
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def send(self, pending: Pending) -> None:
        self.pending = pending
        if self._transport is not None:
            self._transport.write(pending.request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.is_open = True
        self._transport = cast("asyncio.Transport", transport)
        if self.pending is not None:
            self._transport.write(self.pending.request)

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        parsed = parse_answer(self._data)
        if parsed is None:
            return
        answer, self._data = parsed
        if answer.is_last:
            self.is_open = False
            assert self._transport is not None
            self._transport.close()
        self._end(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - lost is lost
        self.is_open = False
        self._end(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, answer: Answer | None) -> None:
        pending, self.pending = self.pending, None
        if pending is not None:
            self._on_answer(self, pending, answer)


class Generator:
    """What both loops share: connections, numbers, and the record. `started` is when the first request is due."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.recorder = Recorder(load.doubles)
        self.started = 0.0
        self._loop = asyncio.get_running_loop()
        self._opened = 0
        self._made = 0
        self._outstanding: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[Pending] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_done = asyncio.Event()

    async def open(self, count: int) -> None:
        for _ in range(count):
            self._idle.append(await self._connect(Connection(self._next_number(), self._answered)))

    def next_pending(self, due: float) -> Pending:
        number, self._made = self._made, self._made + 1
        template = self.load.requests[number % len(self.load.requests)]
        return Pending(due, number, template.replace(NUMBER, b"%06d" % (number % 1_000_000)))

    def fire(self, pending: Pending) -> None:
        """Send on a connection that is free, else on a new one; where there may be no more, when one is free."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                self._outstanding.add(connection)
                connection.send(pending)
                return
        if len(self._outstanding) >= self.load.most_connections:
            self._waiting.append(pending)
            return
        connection = Connection(self._next_number(), self._answered)
        connection.pending = pending
        self._outstanding.add(connection)
        task = self._loop.create_task(self._open_for(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> Trace:
        """Wait for what is on its way, for as long as patience lasts."""
        if self._outstanding:
            self._is_done.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_done.wait(), self.load.patience)
        for connection in list(self._outstanding):
            if connection.pending is not None:
                self.recorder.record(connection.pending, connection.number, None, "no_answer")
                connection.pending = None
            connection.close()
        for pending in self._waiting:
            self.recorder.record(pending, 0, None, "not_sent")
        return self.recorder.trace(self.started, self.load.length)

    def after(self, connection: Connection, answer: Answer | None) -> None:  # noqa: ARG002 - a closed loop reads it
        """The connection's request has ended; it is free for another."""
        if connection.is_open:
            self._idle.append(connection)
        if self._waiting:
            self.fire(self._waiting.popleft())

    def _answered(self, connection: Connection, pending: Pending, answer: Answer | None) -> None:
        self.recorder.record(pending, connection.number, answer, "" if answer else "broken")
        self._end(connection)
        self.after(connection, answer)

    def _end(self, connection: Connection) -> None:
        self._outstanding.discard(connection)
        if not self._outstanding:
            self._is_done.set()

    async def _open_for(self, connection: Connection) -> None:
        try:
            await self._connect(connection)
        except OSError:
            pending, connection.pending = connection.pending, None
            assert pending is not None
            self.recorder.record(pending, connection.number, None, "not_connected")
            self._end(connection)
            self._loop.call_later(0.01, self.after, connection, None)

    async def _connect(self, connection: Connection) -> Connection:
        await self._loop.create_connection(lambda: connection, "127.0.0.1", self.load.port)
        return connection

    def _next_number(self) -> int:
        self._opened += 1
        return self._opened


class OpenLoop(Generator):
    async def run(self) -> Trace:
        arrivals = poisson_arrivals(self.load.phases, self.load.seed)
        await self.open(self.load.connections)
        print("ready", flush=True)
        self.started = time.monotonic() + _LEAD
        due = (arrivals + self.started).tolist()
        sent = 0
        while sent < len(due):
            now = time.monotonic()
            while sent < len(due) and due[sent] <= now:
                self.fire(self.next_pending(due[sent]))
                sent += 1
            if sent < len(due):
                await asyncio.sleep(max(_TICK, due[sent] - time.monotonic()))
        return await self.finish()


class ClosedLoop(Generator):
    """Ends when its time is over, when it has sent enough, or on SIGTERM."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._is_over = asyncio.Event()

    async def run(self) -> Trace:
        self._loop.add_signal_handler(signal.SIGTERM, self._is_over.set)
        await self.open(self.load.clients)
        print("ready", flush=True)
        self.started = time.monotonic()
        for _ in range(self.load.clients):
            self._send_again()
        self._loop.call_later(self.load.seconds, self._is_over.set)
        await self._is_over.wait()
        return await self.finish()

    def after(self, connection: Connection, answer: Answer | None) -> None:
        super().after(connection, answer)
        milliseconds = (
            answer.header("retry-after-ms") if answer is not None and answer.status == 503 else None
        )
        if self.load.honours_retry_after and milliseconds is not None:
            self._loop.call_later(int(milliseconds) / 1e3, self._send_again)
        else:
            self._send_again()

    def _send_again(self) -> None:
        if not self._is_over.is_set():
            self.fire(self.next_pending(time.monotonic()))
        if self._made >= self.load.most:
            self._is_over.set()


async def _run(load: Load, file: Path) -> None:
    generator = OpenLoop(load) if load.phases else ClosedLoop(load)
    trace = await generator.run()
    trace.save(file)


def main(arguments: Sequence[str]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.disable()  # looking through its own records would stop it for longer than what it measures
    load = Load.parse(sys.stdin.buffer.read())
    uvloop.run(_run(load, Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
