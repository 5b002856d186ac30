"""The server: everything is built here, runs in one task group, and is drained in one order.

    readiness falls, answers say `Connection: close` → refuse what comes → answer what was accepted
    → close the port and idle connections → end the processes → flush the log

Nothing here or below imports an ML framework; that happens in the model processes.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from maas.api.app import create_app
from maas.api.codec import LARGE, Codec
from maas.api.door import Door
from maas.batching.backlog import Backlog
from maas.batching.execution import BatchObservation
from maas.batching.permits import Permits
from maas.config import Configuration, ServerOptions, is_loopback
from maas.edge.connection import Connection
from maas.edge.edge import Edge
from maas.errors import ConfigurationError, WorkerDied
from maas.gateway import Gateway
from maas.models.live import Hooks, LiveVersion, VersionState
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion
from maas.telemetry.logs import logging_to
from maas.telemetry.metrics import Gauges, Labels, Metrics
from maas.telemetry.requests import AccessPolicy, RequestRecorder
from maas.workers.launcher import Launcher

_BACKLOG = 2048  # connections that the kernel holds until they are accepted
_OTHER_DESCRIPTORS = 256  # that are kept for other things than connections
_LAST_WRITES = 5  # seconds that answers may take to leave once they are all there


def run(configuration: Configuration) -> None:
    """Serve until SIGINT or SIGTERM, drain, and return. Raises `ConfigurationError` where the port cannot be had."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every connection takes a descriptor
    with (
        listen(configuration.server.host, configuration.server.port) as sock,
        logging_to(level=configuration.logging.level),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(configuration, sock))


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


async def serve(configuration: Configuration, sock: socket.socket) -> None:
    """Load the models and serve them on `sock` until told to stop; a second signal does not wait for answers."""
    log = structlog.get_logger("maas.server")
    launcher = Launcher()
    metrics = Metrics(lambda: _sample(registry))
    limits = configuration.limits
    backlog = Backlog(limits.waiting_requests, limits.waiting_bytes)
    registry = _build_registry(configuration, launcher, backlog, metrics)
    gateway = Gateway(registry)
    codec = Codec(launcher, backlog, limits.codec_processes)
    recorder = RequestRecorder(metrics, _access_policy(configuration))
    edge = _build_edge(configuration, Door(gateway, recorder, limits.requests))
    app = create_app(
        gateway,
        codec,
        metrics,
        recorder,
        readiness_needs_all=configuration.server.readiness == "all",
        allow_control=is_loopback(configuration.server.host),
    )
    http = _build_http(app, edge)
    host, port = sock.getsockname()[:2]
    log.info("listening", host=host, port=port, models=[live.label for live in registry.versions()])
    for broken in registry.broken:
        log.error("version_broken", model=broken.label, reason=broken.reason)
    try:
        with _signals() as (stop, abort):
            async with asyncio.TaskGroup() as group:
                models = group.create_task(registry.serve())
                watching = group.create_task(_watch(registry, configuration.watch_seconds))
                group.create_task(http.serve([sock]))
                group.create_task(_prepare(codec, registry))
                await stop.wait()
                watching.cancel()
                await _drain(configuration.server, edge, gateway, abort)
                models.cancel()
                http.should_exit = True
    finally:
        codec.close()
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


def _build_edge(configuration: Configuration, door: Door) -> Edge:
    """Not all descriptors are for connections: model processes need some, and so does telling one too many."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Edge(
        configuration.server,
        door,
        body_bytes=configuration.limits.body_bytes,
        max_connections=min(
            configuration.server.max_connections,
            max(descriptors // 2, descriptors - _OTHER_DESCRIPTORS),
        ),
    )


def _access_policy(configuration: Configuration) -> AccessPolicy:
    logging = configuration.logging
    return AccessPolicy(logging.access, logging.access_sample, logging.slow_seconds)


def _build_registry(
    configuration: Configuration, launcher: Launcher, backlog: Backlog, metrics: Metrics
) -> Registry:
    permits = Permits(configuration.limits.running_batches)
    hooks = Hooks(
        on_batch=lambda live, batch: _meter_batch(metrics, live, batch),
        on_ready=_log_ready,
        on_death=_log_death,
        on_state=_log_state,
    )

    def make_live(stored: StoredVersion) -> LiveVersion:
        return LiveVersion(
            stored, configuration, launcher=launcher, permits=permits, backlog=backlog, hooks=hooks
        )

    return Registry(Repository(configuration.repository), configuration, make_live)


async def _drain(options: ServerOptions, edge: Edge, gateway: Gateway, abort: asyncio.Event) -> None:
    """Say that the server goes, and serve on for the delay; then refuse what comes, and return when everything accepted
    is answered, when that has taken too long, or on `abort`. Connections stay open: who uses one can still be told."""
    log = structlog.get_logger("maas.server")
    log.info("leaving", seconds=options.drain_delay)
    edge.leave()
    await _first_of(abort.wait(), seconds=options.drain_delay)
    log.info("draining", seconds=options.drain_timeout)
    gateway.is_draining = True
    await _first_of(gateway.registry.drain(), abort.wait(), seconds=options.drain_timeout)


async def _first_of(*events: Coroutine[Any, Any, object], seconds: float) -> None:
    """Wait for the first of `events`, for at most `seconds`, and cancel the others."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event) for event in events]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


async def _prepare(codec: Codec, registry: Registry) -> None:
    """Where a model may be sent large bodies, have the process that reads them before the first one comes."""
    if any(live.body_limit > LARGE for live in registry.versions()):
        with suppress(WorkerDied):  # it is tried again when one comes
            await codec.prepare()


async def _watch(registry: Registry, seconds: float) -> None:
    """Look at the repository every `seconds`; never where that is 0. File systems that are mounted over a network tell
    nobody of changes, so looking is what works everywhere."""
    while seconds:
        await asyncio.sleep(seconds)
        registry.refresh()


@contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: set by the first SIGINT or SIGTERM, and by the second."""
    loop = asyncio.get_running_loop()
    stop, abort = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (abort if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop, abort
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _sample(registry: Registry) -> Iterable[tuple[Labels, Gauges]]:
    for live in registry.versions():
        queue, pool = live.statistics()
        instances = {state.value: count for state, count in pool.instances.items()}
        yield (live.name, live.version), Gauges(queue.waiting, queue.running, instances, pool.deaths)


def _meter_batch(metrics: Metrics, live: LiveVersion, batch: BatchObservation) -> None:
    metrics.observe_batch((live.name, live.version), batch.queued, batch.rows, batch.compute)


def _log_ready(live: LiveVersion, pid: int) -> None:
    structlog.get_logger("maas.server").info("instance_ready", model=live.label, pid=pid)


def _log_death(live: LiveVersion, pid: int, code: int | None) -> None:
    structlog.get_logger("maas.server").warning("instance_died", model=live.label, pid=pid, exit_code=code)


def _log_state(live: LiveVersion) -> None:
    log = structlog.get_logger("maas.server")
    write = log.error if live.state is VersionState.FAILED else log.info
    write(f"version_{live.state}", model=live.label, **({"reason": live.reason} if live.reason else {}))
