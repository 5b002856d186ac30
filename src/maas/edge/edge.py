"""What all connections share: the limits, the door, and the one timer that keeps every timeout.

Time is coarse on purpose. `now` is renewed by the sweep only, so that a request asks no clock; a time set from it may
be one tick early, which each span makes up for, so that nobody is cut off before the time that was configured.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from maas.api.routes import Target
from maas.api.terms import Asked
from maas.config import ServerOptions
from maas.edge.heads import Heads
from maas.edge.lane import Lane
from maas.edge.local_callers import LocalCallers
from maas.edge.outbox import Outbox
from maas.edge.targets import Targets
from maas.edge.turns import Turns
from maas.edge.unsent import Unsent
from maas.errors import MaasError

if TYPE_CHECKING:
    from maas.edge.connection import Connection

_TICKS = 10  # in the shortest timeout
_SHORTEST_TICK, _LONGEST_TICK = 0.02, 0.5  # seconds
_LINGER = 2.0  # seconds that a client may go on sending what nobody will read
_LAST_LINGER = 0.3  # seconds of that while the server ends
_STRANGERS = 16  # share of `max_connections`, as a divisor
NEVER = math.inf


class Door(Protocol):
    """Who decides on a request by its head; `maas.api.door.Door` is the one there is."""

    def refusal(self, target: Target, asked: Asked | None, late: float) -> MaasError | None: ...

    def closed(self, in_flight: int) -> MaasError | None: ...

    def turned_away(self, target: Target | None, outcome: str) -> None: ...


class Edge:
    """`body_bytes` bounds any body; `max_connections` is how many connections may be open; `local_only` refuses who is none
    of `LocalCallers`.

    Spans are in seconds, with the tick that a coarse clock may owe.
    """

    def __init__(
        self,
        options: ServerOptions,
        door: Door,
        lane: Lane,
        *,
        body_bytes: int,
        max_connections: int,
        local_only: bool,
    ) -> None:
        self.door = door
        self.lane = lane
        self.targets = Targets()
        self.heads = Heads()
        self.outbox = Outbox()
        self.callers = LocalCallers() if local_only else None
        self.admitted = 0  # connections that count against `max_connections`
        self.is_leaving = False
        self.now = 0.0
        self.is_empty = asyncio.Event()
        """Set while there is no connection."""
        self.is_empty.set()
        self._connections: set[Connection] = set()
        self.turns = Turns()
        self.unsent = Unsent(options.write_timeout)
        self._timer: asyncio.TimerHandle | None = None
        self._default_headers: tuple[object, bytes] = (None, b"")
        self.limit(options, body_bytes=body_bytes, max_connections=max_connections)

    def limit(self, options: ServerOptions, *, body_bytes: int, max_connections: int) -> None:
        """Hold connections to these limits, each from the next thing on that it is expected to do."""
        self.options = options
        self.heads.forget()
        self.header_count = options.header_count  # looked at for each header
        self.body_bytes = body_bytes
        self.max_connections = max_connections
        shortest = min(
            options.header_timeout, options.idle_timeout, options.body_grace, options.write_timeout
        )
        self._tick = min(max(shortest / _TICKS, _SHORTEST_TICK), _LONGEST_TICK)
        self.header_span = options.header_timeout + self._tick
        self.idle_span = options.idle_timeout + self._tick
        self.keep_alive_span = options.keep_alive_timeout + self._tick
        self.body_span = options.body_grace + self._tick
        self.linger_span = _LINGER + self._tick
        self.last_span = _LAST_LINGER + self._tick
        self.unsent.patience = options.write_timeout + self._tick

    def leave(self) -> None:
        """The server will shut down: every answer says `Connection: close`."""
        self.is_leaving = True

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.is_empty.clear()
        if self._timer is None:
            self._arm(connection.loop)

    def remove(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self.is_empty.set()
        self.unsent.forget(connection.transport)
        self.turns.forget(connection)

    def has_room_for_strangers(self) -> bool:
        """Whether a connection that is one too many may stay until its client has heard so: few may, for they take the
        descriptors that the server needs for itself."""
        return len(self._connections) - self.admitted <= max(4, self.max_connections // _STRANGERS)

    def render_default_headers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's own headers (it makes a new list each second, for the date) as they stand in an answer."""
        source, rendered = self._default_headers
        if source is not headers:
            rendered = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._default_headers = (headers, rendered)
        return rendered

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time()
        self._timer = loop.call_later(self._tick, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """One look at every connection. Without connections nothing is scheduled."""
        self._timer = None
        if not self._connections:
            return
        self._arm(loop)
        now = self.now
        for connection in [c for c in self._connections if c.deadline < now or c.flow.read_paused]:
            connection.check_reading(now)
        self.unsent.sweep(now)
