"""The server: everything is built here, runs in one task group, and is drained in one order.

    readiness falls, answers say `Connection: close` → refuse what comes → answer what was accepted
    → close the port and idle connections → end the processes → flush the log

Nothing here or below imports an ML framework; that happens in the model processes.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from maas.config import Configuration, ServerOptions
from maas.edge.connection import Connection
from maas.edge.edge import Edge
from maas.errors import ConfigurationError
from maas.server.parts import Parts, build, prepare
from maas.server.reloader import Reloader
from maas.server.signals import signals
from maas.telemetry.logs import logging_to
from maas.workers.launcher import Launcher

_BACKLOG = 2048  # connections that the kernel holds until they are accepted
_LAST_WRITES = 5  # seconds that answers may take to leave once they are all there


def run(read: Callable[[], Configuration]) -> None:
    """Serve by the configuration that `read` gives, again at every SIGHUP, until SIGINT or SIGTERM; drain, and return.

    Raises `ConfigurationError` where there is none at first, or the port cannot be had.
    """
    configuration = read()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection takes a descriptor
    with (
        listen(configuration.server.host, configuration.server.port) as sock,
        logging_to(level=configuration.logging.level),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(configuration, read, sock))


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything else is started."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)  # the kernel holds who comes while the rest starts
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"server: cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


async def serve(configuration: Configuration, read: Callable[[], Configuration], sock: socket.socket) -> None:
    """Load the models and serve them on `sock` until told to stop; a second signal does not wait for answers."""
    log = structlog.get_logger("maas.server")
    launcher = Launcher()
    parts = build(configuration, launcher)
    reloader = Reloader(configuration, read, parts)
    http = _build_http(parts.app, parts.edge)
    host, port = sock.getsockname()[:2]
    log.info("listening", host=host, port=port, models=[live.label for live in parts.registry.versions()])
    for broken in parts.registry.broken:
        log.error("version_broken", model=broken.label, reason=broken.reason)
    try:
        with signals() as told:
            async with asyncio.TaskGroup() as group:
                models = group.create_task(parts.registry.serve())
                keepers = [
                    group.create_task(parts.watch.serve()),
                    group.create_task(reloader.serve(told.reload)),
                ]
                group.create_task(http.serve([sock]))
                group.create_task(prepare(parts.codec, parts.registry))
                await told.stop.wait()
                for keeper in keepers:
                    keeper.cancel()
                await _drain(reloader.configuration.server, parts, told.abort)
                models.cancel()
                http.should_exit = True
    finally:
        parts.codec.close()
        await launcher.close()
        log.info("stopped")


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: stopping is ours, for it begins with draining."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _build_http(app: FastAPI, edge: Edge) -> _HttpServer:
    connect = cast(
        "type[asyncio.Protocol]", partial(Connection, edge)
    )  # uvicorn calls it, as it would a class
    return _HttpServer(
        uvicorn.Config(
            app,
            http=connect,
            ws="none",  # it would take connections out of the edge's hands
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_LAST_WRITES,
        )
    )


async def _drain(options: ServerOptions, parts: Parts, abort: asyncio.Event) -> None:
    """Say that the server goes, and serve on for the delay; then refuse what comes, and return when everything accepted
    is answered, when that has taken too long, or on `abort`. Connections stay open: who uses one can still be told."""
    log = structlog.get_logger("maas.server")
    log.info("leaving", seconds=options.drain_delay)
    parts.edge.leave()
    await _first_of(abort.wait(), seconds=options.drain_delay)
    log.info("draining", seconds=options.drain_timeout)
    parts.gateway.is_draining = True
    await _first_of(parts.registry.drain(), abort.wait(), seconds=options.drain_timeout)


async def _first_of(*events: Coroutine[Any, Any, object], seconds: float) -> None:
    """Wait for the first of `events`, for at most `seconds`, and cancel the others."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event) for event in events]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
