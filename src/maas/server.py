"""The server: everything is built here, runs in one task group, and is drained in one order.

    readiness falls → refuse what comes → answer what was accepted → close the port → end the processes → flush the log

Nothing here or below imports an ML framework; that happens in the model processes.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop

from maas.api.app import create_app
from maas.batching.batcher import BatchObservation
from maas.batching.permits import Permits
from maas.config import Configuration
from maas.errors import ConfigurationError
from maas.gateway import Gateway
from maas.models.live import Hooks, LiveVersion, VersionState
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion
from maas.telemetry.logs import logging_to
from maas.telemetry.metrics import Gauges, Labels, Metrics
from maas.telemetry.requests import AccessPolicy, RequestRecorder
from maas.workers.launcher import Launcher

_BACKLOG = 2048  # connections that the kernel holds until they are accepted
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
    registry = _build_registry(configuration, launcher, metrics)
    gateway = Gateway(registry)
    http = _build_http(configuration, gateway, metrics)
    host, port = sock.getsockname()[:2]
    log.info("listening", host=host, port=port, models=[live.label for live in registry.versions()])
    for broken in registry.broken:
        log.error("version_broken", model=f"{broken.name}/{broken.version}", reason=broken.reason)
    try:
        with _signals() as (stop, abort):
            async with asyncio.TaskGroup() as group:
                models = group.create_task(registry.serve())
                group.create_task(http.serve([sock]))
                await stop.wait()
                log.info("draining", seconds=configuration.server.drain_timeout)
                gateway.is_draining = True
                await _drain(registry, abort, configuration.server.drain_timeout)
                models.cancel()
                http.should_exit = True
    finally:
        await launcher.close()
        log.info("stopped")


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: stopping is ours, for it begins with draining."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _build_http(configuration: Configuration, gateway: Gateway, metrics: Metrics) -> _HttpServer:
    logging = configuration.logging
    policy = AccessPolicy(logging.access, logging.access_sample, logging.slow_seconds)
    app = create_app(
        gateway,
        metrics,
        RequestRecorder(metrics, policy),
        readiness_needs_all=configuration.server.readiness == "all",
    )
    return _HttpServer(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_LAST_WRITES,
        )
    )


def _build_registry(configuration: Configuration, launcher: Launcher, metrics: Metrics) -> Registry:
    permits = Permits(configuration.limits.running_batches)
    hooks = Hooks(
        on_batch=lambda live, batch: _meter_batch(metrics, live, batch),
        on_death=_log_death,
        on_state=_log_state,
    )

    def make_live(stored: StoredVersion) -> LiveVersion:
        return LiveVersion(stored, configuration, launcher=launcher, permits=permits, hooks=hooks)

    return Registry(Repository(configuration.repository), configuration, make_live)


async def _drain(registry: Registry, abort: asyncio.Event, seconds: float) -> None:
    """Wait until everything accepted is answered, for at most `seconds`, or until `abort`."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(registry.drain()), group.create_task(abort.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


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


def _log_death(live: LiveVersion, pid: int, code: int) -> None:
    structlog.get_logger("maas.server").warning("instance_died", model=live.label, pid=pid, exit_code=code)


def _log_state(live: LiveVersion) -> None:
    log = structlog.get_logger("maas.server")
    write = log.error if live.state is VersionState.FAILED else log.info
    write(f"version_{live.state}", model=live.label, **({"reason": live.reason} if live.reason else {}))
