"""The server: everything is built here, runs in one task group, and is drained in one order.

    readiness falls, answers say `Connection: close` → refuse what comes → answer what was accepted
    → close the ports and idle connections → end the processes → flush the log

One that is taken over differs in its beginning only: it accepts no more, and nobody who asks is told that it is not ready.
Nothing here or below imports an ML framework; that happens in the model processes.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog
import uvloop

from maas.config import Configuration, ServerOptions
from maas.errors import ConfigurationError, MaasError, ModelNotReady
from maas.server.handover import Predecessor, Succession, meet
from maas.server.http import BACKLOG, LAST_WRITES, HttpServer
from maas.server.parts import Parts, build, log_line, prepare
from maas.server.reloader import Reloader
from maas.server.signals import Signals, signals
from maas.telemetry.logs import logging_to
from maas.workers.heap import keep_freed
from maas.workers.launcher import Launcher

# Requests in flight are many young objects, and none of them garbage: with Python's own 700 they are looked through again and
# again, and end among the old ones.
_GARBAGE = (20_000, 50, 100)
_KEPT, _LARGEST = (
    16 << 20,
    4 << 20,
)  # bytes: of its heap, for the next bodies; of one that is taken from there
_MOVING_SECONDS = 5.0  # at least, in which callers with kept connections are sent to the successor


def run(read: Callable[[], Configuration], take_over: int | None = None) -> None:
    """Serve by the configuration that `read` gives, again at every SIGHUP, until SIGINT, SIGTERM or a successor; drain, and
    return. With `take_over`, do so in the place of the server that is that process.

    Raises `ConfigurationError` where there is none at first, or the port cannot be had; where a place cannot be taken, what
    stands in the way.
    """
    configuration = read()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection takes a descriptor
    options = configuration.server
    if take_over is None and options.grpc_port:
        _check_free(options.host, options.grpc_port)
    predecessor = meet(take_over, options) if take_over is not None else None
    with (
        listen(options.host, options.port) if predecessor is None else predecessor.sock as sock,
        logging_to(level=configuration.logging.level),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(configuration, read, sock, predecessor))


def listen(host: str, port: int) -> socket.socket:
    """Take the address before anything else is started."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)  # the kernel holds who comes while the rest starts
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"server: cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


def _check_free(host: str, port: int) -> None:
    """Raise `ConfigurationError` where somebody listens there. gRPC does not: it shares a port with who lets it, which is how
    a successor gets it, and each is given a part of the calls."""
    listen(host, port).close()


async def serve(
    configuration: Configuration,
    read: Callable[[], Configuration],
    sock: socket.socket,
    predecessor: Predecessor | None = None,
) -> None:
    """Load the models and serve them on `sock` until told to stop; a second signal does not wait for answers. Raises
    `Unavailable` or `ModelNotReady` where the place of `predecessor` cannot be taken."""
    launcher = Launcher(on_line=partial(log_line, "forkserver_output"))
    parts = build(configuration, launcher)
    gc.freeze()  # what is built stays; looking through all of it for garbage would stop the loop for 50 ms
    gc.set_threshold(*_GARBAGE)
    keep_freed(_KEPT, _LARGEST)
    reloader = Reloader(configuration, read, parts)
    http = HttpServer(parts.app, parts.edge)
    problem: MaasError | None = None
    try:
        with signals() as told:
            async with asyncio.TaskGroup() as group:
                workers = [
                    group.create_task(parts.registry.serve()),
                    group.create_task(prepare(parts.codec, parts.registry)),
                ]
                group.create_task(http.serve())
                try:
                    await _open(parts, http, sock, predecessor, told.stop)
                except MaasError as error:
                    problem = error
                else:
                    await _serve_until_told(parts, reloader, Succession(sock, http), told)
                await _drain(reloader.configuration.server, parts, told)
                if parts.grpc is not None:
                    await parts.grpc.stop(0 if told.abort.is_set() else LAST_WRITES)
                for worker in workers:
                    worker.cancel()
                http.should_exit = True
    finally:
        parts.codec.close()
        await launcher.close()
        structlog.get_logger("maas.server").info("stopped")
    if problem is not None:
        raise problem


async def _serve_until_told(parts: Parts, reloader: Reloader, succession: Succession, told: Signals) -> None:
    """Watch, reload and wait for successors until told to stop, or until one has taken over; then send callers away."""
    async with asyncio.TaskGroup() as group:
        keepers = [
            group.create_task(parts.watch.serve()),
            group.create_task(reloader.serve(told.reload)),
            group.create_task(succession.serve()),
        ]
        await _first_of(told.stop.wait(), succession.is_done.wait())
        for keeper in keepers:
            keeper.cancel()
    if succession.is_done.is_set():
        await _send_away(reloader.configuration.server, parts, told)
    else:
        await _leave(reloader.configuration.server, parts, told)


async def _open(
    parts: Parts, http: HttpServer, sock: socket.socket, predecessor: Predecessor | None, stop: asyncio.Event
) -> None:
    """Accept connections: at once, or when the models are ready and a predecessor has let go of the socket."""
    log = structlog.get_logger("maas.server")
    if predecessor is not None:
        log.info("taking_over", pid=predecessor.pid)
        await _first_of(parts.registry.settle(), stop.wait())
        if stop.is_set():
            return
        if reason := _unready(parts):
            raise ModelNotReady(f"process {predecessor.pid} is not taken over: {reason}")
        await _open_grpc(parts)
        await predecessor.relieve(partial(http.accept, sock.dup()))
    else:
        await _open_grpc(parts)
        await http.accept(sock.dup())
    host, port = sock.getsockname()[:2]
    log.info("listening", host=host, port=port, models=[live.label for live in parts.registry.versions()])
    for broken in parts.registry.broken:
        log.error("version_broken", model=broken.label, reason=broken.reason)


async def _open_grpc(parts: Parts) -> None:
    """Listen for gRPC; beside a predecessor for a moment, and whoever connects meets either."""
    if parts.grpc is not None:
        await parts.grpc.start()
        structlog.get_logger("maas.server").info("listening_for_grpc", port=parts.grpc.port)


def _unready(parts: Parts) -> str:
    """Why the server may not take another's place, with what failed; empty where it may."""
    readiness = parts.gateway.readiness()
    failed = (f"{label}: {reason}" for label, reason in readiness.failed.items())
    return "; ".join((readiness.reason, *failed)) if readiness.reason else ""


async def _leave(options: ServerOptions, parts: Parts, told: Signals) -> None:
    """Say that the server goes, and serve on for the delay."""
    structlog.get_logger("maas.server").info("leaving", seconds=options.drain_delay)
    parts.edge.leave()
    parts.gateway.is_leaving = True
    await _first_of(told.abort.wait(), seconds=options.drain_delay)


async def _send_away(options: ServerOptions, parts: Parts, told: Signals) -> None:
    """A successor serves at the same address: have callers connect again, and serve on until all have gone, or for the
    delay. Who has a connection and asks nothing for so long finds it closed."""
    seconds = max(options.drain_delay, _MOVING_SECONDS)
    structlog.get_logger("maas.server").info("leaving", seconds=seconds)
    parts.edge.leave()
    await _first_of(told.stop.wait(), _all_gone(parts, seconds), seconds=seconds)


async def _all_gone(parts: Parts, seconds: float) -> None:
    """Return when no connection is left. gRPC tells its clients to connect anew, and lets calls end that have begun."""
    if parts.grpc is not None:
        await parts.grpc.stop(seconds)
    await parts.edge.is_empty.wait()


async def _drain(options: ServerOptions, parts: Parts, told: Signals) -> None:
    """Refuse what comes, and return when everything accepted is answered, when that has taken too long, or when told to
    abort. Connections stay open: who uses one can still be told."""
    structlog.get_logger("maas.server").info("draining", seconds=options.drain_timeout)
    parts.gateway.is_draining = True
    await _first_of(parts.registry.drain(), told.abort.wait(), seconds=options.drain_timeout)


async def _first_of(*events: Coroutine[Any, Any, object], seconds: float | None = None) -> None:
    """Wait for the first of `events`, for at most `seconds`, and cancel the others."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event) for event in events]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
