"""The other driver: requests as bytes through a real connection, whose fast lane answers what it takes."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import httpx
from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.server import ServerState

from maas.api.codec import Codec
from maas.api.door import Door
from maas.config import ServerOptions
from maas.edge.connection import Connection
from maas.edge.edge import Edge
from maas.edge.lane import Lane
from maas.gateway import Gateway
from maas.telemetry.requests import RequestRecorder


class WireTransport(httpx.AsyncBaseTransport):
    """Each request on a connection of its own, over no socket. `taken` counts those that the lane answered."""

    def __init__(self, app: FastAPI, gateway: Gateway, codec: Codec, recorder: RequestRecorder) -> None:
        door = Door(gateway, recorder, 10_000)
        self._lane = _CountingLane(gateway, door, recorder, codec)
        self._edge = Edge(
            ServerOptions(), door, self._lane, body_bytes=1 << 30, max_connections=10_000, local_only=False
        )
        self._config = Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
        )
        self._config.load()
        self._state = ServerState()

    @property
    def taken(self) -> int:
        return self._lane.taken

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        exchange = _Exchange()
        connection = Connection(self._edge, config=self._config, server_state=self._state, app_state={})
        connection.connection_made(exchange)
        lines = [b"%b: %b" % (name, value) for name, value in request.headers.raw]
        if "transfer-encoding" in request.headers:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        target = request.url.raw_path
        head = b"\r\n".join([b"%b %b HTTP/1.1" % (request.method.encode(), target), *lines, b"", b""])
        connection.data_received(head + body)
        try:
            await exchange.is_complete.wait()
            if connection.tasks:  # an application may have to put away what it has read
                await asyncio.wait(set(connection.tasks), timeout=0.1)
        finally:
            connection.connection_lost(None)
        content = httpx.ByteStream(exchange.body)
        return httpx.Response(exchange.status, headers=exchange.headers, stream=content)


class _CountingLane(Lane):
    taken = 0

    def enter(self, *request: Any) -> Any:
        self.taken += 1
        return super().enter(*request)


class _Exchange(asyncio.Transport):
    """A transport whose other end reads one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.is_complete = asyncio.Event()
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self._parser = httptools.HttpResponseParser(self)

    def write(self, data: Any) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.is_complete.set()

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.is_complete.set()

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing more comes."""

    def resume_reading(self) -> None:
        """Nothing more comes."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
