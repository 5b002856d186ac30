"""uvicorn as it is used here: it keeps connections, but when to accept them and when to end is decided by others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from maas.edge.connection import Connection
from maas.edge.edge import Edge

BACKLOG = 2048  # connections that the kernel holds until they are accepted
LAST_WRITES = 5  # seconds that answers may take to leave once they are all there


class HttpServer(uvicorn.Server):
    """Serves connections once it is told to accept them, and ends when `should_exit` is set."""

    def __init__(self, app: FastAPI, edge: Edge) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",  # it would take connections out of the edge's hands
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=LAST_WRITES,
            )
        )
        self.config.load()
        self.servers: list[asyncio.base_events.Server] = []
        self._edge = edge

    async def accept(self, sock: socket.socket) -> None:
        """Accept connections on `sock`, which is ours to close then."""
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(self._connect, sock=sock, backlog=BACKLOG))

    def stop_accepting(self) -> None:
        """Close our descriptors of the socket. Who else holds one goes on accepting; connections stay."""
        for server in self.servers:
            server.close()
        self.servers = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - see `accept`
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone: stopping begins with draining."""
        yield

    def _connect(self) -> Connection:
        return Connection(self._edge, config=self.config, server_state=self.server_state, app_state={})
