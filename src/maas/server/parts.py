"""The parts of a server, built in one place and given to each other."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI

from maas.api.app import create_app
from maas.api.codec import LARGE, Codec
from maas.api.compression import Compressor
from maas.api.door import Door
from maas.batching.backlog import Backlog
from maas.batching.permits import Permits
from maas.config import Configuration, ServerOptions
from maas.edge.edge import Edge
from maas.edge.lane import Lane
from maas.errors import ConfigurationError, WorkerDied
from maas.gateway import Gateway
from maas.models.live import Hooks, LiveOptions, LiveVersion, VersionState
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion
from maas.server.watch import Watch
from maas.telemetry.metrics import Gauges, Labels, Metrics
from maas.telemetry.requests import AccessPolicy, RequestRecorder
from maas.workers.launcher import Launcher
from maas.workers.standard_output import PrintedLine

if TYPE_CHECKING:
    from maas.api.grpc.server import GrpcServer

_OTHER_DESCRIPTORS = 256  # that are kept for other things than connections


@dataclass(frozen=True, slots=True)
class Parts:
    """What serves, and what of it is told when the configuration changes."""

    app: FastAPI
    codec: Codec
    edge: Edge
    grpc: GrpcServer | None
    door: Door
    gateway: Gateway
    registry: Registry
    permits: Permits
    backlog: Backlog
    recorder: RequestRecorder
    watch: Watch


def build(configuration: Configuration, launcher: Launcher) -> Parts:
    """Nothing is started by it. Raises `BadArtifact` where the repository cannot be read, `ConfigurationError` where something
    that is asked for is not installed."""
    limits = configuration.limits
    permits = Permits(limits.running_batches)
    backlog = Backlog(limits.waiting_requests, limits.waiting_bytes)
    metrics = Metrics(lambda: _sample(registry), lambda: len(asyncio.all_tasks()))
    registry = _build_registry(configuration, launcher, metrics, permits, backlog)
    gateway = Gateway(registry, needs_all=configuration.server.readiness == "all")
    recorder = RequestRecorder(metrics, access_policy(configuration))
    door = Door(gateway, recorder, limits.requests)
    codec = Codec(
        launcher, backlog, limits.codec_processes, Compressor(is_on=configuration.server.compression)
    )
    return Parts(
        app=create_app(gateway, codec, metrics, recorder, allow_control=configuration.may_control),
        codec=codec,
        edge=Edge(
            configuration.server,
            door,
            Lane(gateway, door, recorder, codec),
            body_bytes=limits.body_bytes,
            max_connections=most_connections(configuration.server),
            local_only=configuration.access == "loopback",
        ),
        grpc=_build_grpc(configuration, gateway, door, recorder, backlog, metrics),
        door=door,
        gateway=gateway,
        registry=registry,
        permits=permits,
        backlog=backlog,
        recorder=recorder,
        watch=Watch(registry, configuration.watch_seconds),
    )


async def prepare(codec: Codec, registry: Registry) -> None:
    """Where a model may be sent large bodies, have the process that reads them before the first one comes."""
    if any(live.body_limit > LARGE for live in registry.versions()):
        with suppress(WorkerDied):  # it is tried again when one comes
            await codec.prepare()


def most_connections(options: ServerOptions) -> int:
    """Not all descriptors are for connections: model processes need some, and so does telling one too many."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(options.max_connections, max(descriptors // 2, descriptors - _OTHER_DESCRIPTORS))


def access_policy(configuration: Configuration) -> AccessPolicy:
    logging = configuration.logging
    return AccessPolicy(logging.access, logging.access_sample, logging.slow_seconds)


def _build_grpc(
    configuration: Configuration,
    gateway: Gateway,
    door: Door,
    recorder: RequestRecorder,
    backlog: Backlog,
    metrics: Metrics,
) -> GrpcServer | None:
    """Imported only where it is wanted, for its size. Raises `ConfigurationError` where it is not installed."""
    if not configuration.server.grpc_port:
        return None
    try:
        from maas.api.grpc.server import GrpcServer
    except ImportError as error:
        raise ConfigurationError(
            f"server.grpc_port: {error.name} is not installed; the extra `grpc` has it"
        ) from error
    most = most_connections(configuration.server)
    return GrpcServer(configuration, gateway, door, recorder, backlog, metrics, most)


def _build_registry(
    configuration: Configuration, launcher: Launcher, metrics: Metrics, permits: Permits, backlog: Backlog
) -> Registry:
    hooks = Hooks(
        on_batch=lambda live, batch: metrics.observe_batch(live.labels, batch),
        on_ready=_log_ready,
        on_death=_log_death,
        on_line=lambda live, line: log_line("model_output", line, model=live.label),
        on_state=_log_state,
        objection=lambda live: registry.objection(live),
    )

    def make_live(stored: StoredVersion, options: LiveOptions) -> LiveVersion:
        return LiveVersion(stored, options, launcher=launcher, permits=permits, backlog=backlog, hooks=hooks)

    registry = Registry(Repository(configuration.repository), configuration, make_live)
    return registry


def _sample(registry: Registry) -> Iterable[tuple[Labels, Gauges]]:
    for live in registry.versions():
        queue, pool = live.statistics()
        instances = {state.value: count for state, count in pool.instances.items()}
        yield live.labels, Gauges(queue.waiting, queue.running, instances, pool.deaths)


def _log_ready(live: LiveVersion, pid: int) -> None:
    structlog.get_logger("maas.server").info("instance_ready", model=live.label, pid=pid)


def _log_death(live: LiveVersion, pid: int, code: int | None) -> None:
    structlog.get_logger("maas.server").warning("instance_died", model=live.label, pid=pid, exit_code=code)


def log_line(event: str, line: PrintedLine, **origin: str) -> None:
    """What a process prints may be anything; here it is text in an event."""
    told: dict[str, Any] = {"dropped": line.dropped} if line.dropped else {"text": line.text}
    structlog.get_logger("maas.server").info(event, **origin, pid=line.pid, **told)


def _log_state(live: LiveVersion) -> None:
    log = structlog.get_logger("maas.server")
    write = log.error if live.state is VersionState.FAILED else log.info
    told = {"reason": live.reason, "trace": live.trace}
    write(f"version_{live.state}", model=live.label, **{key: text for key, text in told.items() if text})
