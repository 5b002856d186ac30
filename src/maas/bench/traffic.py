"""The traffic itself: connections that send bytes made beforehand and count what comes back.

Rules:
- A request's clock starts when it is due: in a closed loop when the connection is free, in an open one when the schedule says
  so, even if it leaves later. A server that stalls is thereby charged for everyone who would have come meanwhile.
- What is due in [begin, end) is measured, and each such request ends in exactly one outcome, if need be after `end`.
- Nothing is scheduled for each request: a connection answers its own completion, and one sweep finds what takes too long.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from typing import Any, cast

from maas.bench.answers import AnswerScanner
from maas.bench.arrivals import poisson_arrivals
from maas.bench.load import INTERRUPTED, LOST, NO_CONNECTION, TIMEOUT, UNREADABLE, Load, Tally
from maas.bench.timer import PreciseTimer

_PAUSE = 0.05  # seconds before a connection that could not be had is tried again
_SWEEPS = 20  # in the time that an answer is awaited
_MAX_SWEEP = 0.5  # seconds


async def drive(load: Load, on_start: Callable[[Callable[[], None]], None]) -> Tally:
    """Carry `load` out. `on_start` is given the function that ends it early."""
    traffic = Closed(load) if load.rate is None else Open(load, load.rate)
    on_start(traffic.stop)
    return await traffic.run()


class Connection(asyncio.Protocol):
    """One keep-alive connection. `due` is when its request was, None while it has none; `closed` ends with it."""

    __slots__ = ("_scanner", "_traffic", "_transport", "closed", "due", "rows")

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._scanner = AnswerScanner()
        self._transport: asyncio.Transport
        self.closed = asyncio.get_running_loop().create_future()
        self.due: float | None = None
        self.rows = 0

    def send(self, due: float) -> None:
        request = self._traffic.next_request()
        self.due = due
        self.rows = request.rows
        self._transport.write(request.content)

    @property
    def is_closed(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            status = self._scanner.feed(data)
        except ValueError:
            self.fail(UNREADABLE)
            return
        if status and self.due is not None:
            self._traffic.answered(self, self.due, status)
            if self._scanner.keeps_alive:
                self._traffic.freed(self)
            else:
                self.close()

    def eof_received(self) -> None:
        if (status := self._scanner.end()) and self.due is not None:
            self._traffic.answered(self, self.due, status)

    def fail(self, outcome: str) -> None:
        """Give its request up, and the connection with it."""
        due, self.due = self.due, None
        if due is not None:
            self._traffic.failed(due, outcome)
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self.fail(LOST)
        if not self.closed.done():  # nor given up by who waited for it
            self.closed.set_result(None)


class Traffic(ABC):
    """What both loops share: the window, the tally, connections that are kept open, and the sweep."""

    def __init__(self, load: Load) -> None:
        self._load = load
        # The name and the context of TLS, which all connections share; sessions are not resumed.
        self._secured: dict[str, Any] = (
            {"ssl": load.tls.context(), "server_hostname": load.tls.name} if load.tls is not None else {}
        )
        self._tally = Tally()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._is_over = False
        self._stopped = asyncio.Event()
        self._settled = asyncio.Event()
        self._begin = self._end = 0.0
        self.next_request = cycle(load.requests).__next__

    async def run(self) -> Tally:
        """Everything sent, and answered or given up."""
        self._begin = time.monotonic() + self._load.warm_up
        self._end = self._begin + self._load.seconds
        async with asyncio.TaskGroup() as group:
            self._spawn = group.create_task
            sweeping = group.create_task(self._sweep())
            self._start()
            await self._until(self._begin)
            started, computed = time.monotonic(), time.process_time()
            await self._until(self._end)
            self._note(time.monotonic() - started, time.process_time() - computed)
            self._is_over = True
            self._settle()
            await self._settled.wait()
            for task in (sweeping, *self._tasks):
                task.cancel()
            for connection in self._connections:
                connection.close()
        return self._tally

    def stop(self) -> None:
        """End now; what is under way is given up."""
        self._end = min(self._end, max(self._begin, time.monotonic()))
        self._is_over = self._tally.is_interrupted = True
        self._stopped.set()
        self._give_up(math.inf, INTERRUPTED)

    def answered(self, connection: Connection, due: float, status: int) -> None:
        now = time.monotonic()
        connection.due = None
        tally = self._tally
        if (is_good := 200 <= status < 300) and self._begin <= now < self._end:
            tally.completed += 1
            tally.rows += connection.rows
        if self._begin <= due < self._end:
            tally.outcomes[str(status)] += 1
            if is_good:
                tally.latencies.record(now - due)
        if self._is_over:
            self._settle()

    def failed(self, due: float, outcome: str) -> None:
        if self._begin <= due < self._end:
            self._tally.outcomes[outcome] += 1
            if outcome == TIMEOUT:
                self._tally.latencies.record(time.monotonic() - due)
        if self._is_over:
            self._settle()

    @abstractmethod
    def freed(self, connection: Connection) -> None:
        """`connection` has no request under way."""

    @abstractmethod
    def _start(self) -> None:
        """Begin to connect and to send."""

    @abstractmethod
    def _wants_connection(self) -> bool:
        """Whether a connection that is lost is to be opened again."""

    @abstractmethod
    def _unconnected(self, due: float) -> None:
        """A connection that was asked for at `due` was not to be had."""

    def _is_waiting(self) -> bool:
        return any(connection.due is not None for connection in self._connections)

    def _give_up(self, before: float, outcome: str) -> None:
        """What has been due since before that moment is not waited for any longer."""
        for connection in list(self._connections):
            if connection.due is not None and connection.due < before:
                connection.fail(outcome)

    def _settle(self) -> None:
        if not self._is_waiting():
            self._settled.set()

    def _open(self) -> None:
        task = self._spawn(self._keep())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """One connection, opened again when it is lost."""
        while self._wants_connection():
            connection = await self._connect()
            if connection is not None:
                self.freed(connection)
                await connection.closed
                self._connections.discard(connection)

    async def _connect(self) -> Connection | None:
        due = time.monotonic()
        load = self._load
        try:
            async with asyncio.timeout(load.timeout):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(
                    lambda: Connection(self), load.host, load.port, **self._secured
                )
        except OSError:  # TimeoutError is one, and SSLError
            self._unconnected(due)
            await asyncio.sleep(_PAUSE)
            return None
        self._tally.opened += 1
        self._connections.add(connection)
        return connection

    async def _until(self, moment: float) -> None:
        """Also ends when it is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - time.monotonic())):
                await self._stopped.wait()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(self._load.timeout / _SWEEPS, _MAX_SWEEP))
            self._give_up(time.monotonic() - self._load.timeout, TIMEOUT)

    def _note(self, elapsed: float, computed: float) -> None:
        """How long it was measured in fact, and the client's own effort in that time."""
        self._tally.seconds = self._end - self._begin
        self._tally.cpu_shares.append(computed / max(elapsed, 1e-9))


class Closed(Traffic):
    """Each connection asks again as soon as it has its answer."""

    def freed(self, connection: Connection) -> None:
        now = time.monotonic()
        if now < self._end and not self._is_over:
            connection.send(now)

    def _start(self) -> None:
        for _ in range(self._load.connections):
            self._open()

    def _wants_connection(self) -> bool:
        return not self._is_over

    def _unconnected(self, due: float) -> None:
        self.failed(due, NO_CONNECTION)


class Open(Traffic):
    """Requests are sent when they are due; those that find no free connection wait for one, and their clocks run."""

    def __init__(self, load: Load, rate: float) -> None:
        super().__init__(load)
        self._arrivals = poisson_arrivals(rate, load.warm_up + load.seconds, load.seed)
        self._next: float | None = None
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._timer: PreciseTimer

    async def run(self) -> Tally:
        self._timer = PreciseTimer(asyncio.get_running_loop(), self._send_what_is_due)
        try:
            return await super().run()
        finally:
            self._timer.close()

    def freed(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _start(self) -> None:
        self._started = self._begin - self._load.warm_up
        self._advance()
        self._send_what_is_due()

    def _advance(self) -> None:
        after = next(self._arrivals, None)
        self._next = None if after is None else self._started + after

    def _send_what_is_due(self) -> None:
        now = time.monotonic()
        while self._next is not None and self._next <= now and not self._is_over:
            if self._begin <= self._next:
                self._tally.lateness.record(now - self._next)
            self._dispatch(self._next)
            self._advance()
        if self._next is not None and not self._is_over:
            self._timer.set(self._next)

    def _dispatch(self, due: float) -> None:
        while self._idle:
            if not (connection := self._idle.pop()).is_closed:
                connection.send(due)
                return
        self._waiting.append(due)
        if len(self._tasks) < self._load.connections:
            self._open()
        elif self._begin <= due:
            self._tally.starved += 1

    def _wants_connection(self) -> bool:
        return bool(self._waiting)

    def _unconnected(self, due: float) -> None:
        del due
        if self._waiting:
            self.failed(self._waiting.popleft(), NO_CONNECTION)

    def _is_waiting(self) -> bool:
        return bool(self._waiting) or super()._is_waiting()

    def _give_up(self, before: float, outcome: str) -> None:
        super()._give_up(before, outcome)
        while self._waiting and self._waiting[0] < before:
            self.failed(self._waiting.popleft(), outcome)
