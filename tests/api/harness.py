"""The real application over real batchers, with fake instances where the model processes would be."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from tests.api.wire import WireTransport
from tests.fakes import FakeInstance, double

from maas.api.app import create_app
from maas.api.codec import Codec
from maas.api.compression import Compressor
from maas.batching.backlog import Backlog
from maas.batching.permits import Permits
from maas.config import Configuration
from maas.errors import BadArtifact, ModelNotFound
from maas.gateway import Gateway
from maas.models.live import Example, Hooks, LiveOptions, LiveVersion, VersionState
from maas.models.manifest import Batching, Manifest, RuntimeOptions, to_yaml
from maas.models.registry import Registry
from maas.models.repository import StoredVersion
from maas.telemetry.logs import logging_to
from maas.telemetry.metrics import Gauges, Metrics
from maas.telemetry.requests import AccessPolicy, RequestRecorder
from maas.types import Tensors
from maas.workers.launcher import Launcher

DRIVER: ContextVar[str] = ContextVar("DRIVER", default="application")
"""What stands between a test's client and the service: the application alone, or the connection with its fast lane."""


@dataclass
class Model:
    """A version to serve; by default y = 2 x over rows of two numbers."""

    name: str = "double"
    version: str = "1"
    inputs: Mapping[str, str] = field(default_factory=lambda: {"x": "float32[batch, 2]"})
    outputs: Mapping[str, str] = field(default_factory=lambda: {"y": "float32[batch, 2]"})
    function: Callable[[Tensors], Tensors] = double
    state: str = "ready"
    reason: str = ""
    example: Example = field(default_factory=Example)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    max_batch_size: int = 4
    seconds: float = 0.0
    fail_with: Exception | None = None
    broken: str = ""

    def stored(self) -> StoredVersion:
        if self.broken:
            raise BadArtifact(self.broken)
        manifest = Manifest(
            runtime=RuntimeOptions(name="fake"),
            inputs=dict(self.inputs),
            outputs=dict(self.outputs),
            batching=Batching(max_batch_size=self.max_batch_size),
            name=self.name,
            version=self.version,
            created=datetime(2026, 1, 1, tzinfo=UTC),
            files={},
            **self.manifest,
        )
        digest = hashlib.sha256(to_yaml(manifest).encode()).hexdigest()
        return StoredVersion(Path("nowhere"), manifest, digest)


class MemoryRepository:
    """The part of a repository that a registry reads."""

    def __init__(self, models: tuple[Model, ...]) -> None:
        self._models = models

    def models(self) -> list[str]:
        return sorted({model.name for model in self._models})

    def versions(self, name: str) -> list[str]:
        return sorted(model.version for model in self._models if model.name == name)

    def read(self, name: str, version: str | None = None) -> StoredVersion:
        version = version or max(self.versions(name), default=None)
        for model in self._models:
            if (model.name, model.version) == (name, version):
                return model.stored()
        raise ModelNotFound(f"the repository has no model {name!r}")


@dataclass
class Service:
    """What a test holds of a running application."""

    app: FastAPI
    client: httpx.AsyncClient
    gateway: Gateway
    metrics: Metrics
    instances: dict[str, FakeInstance]
    recorder: RequestRecorder
    backlog: Backlog

    async def post(self, path: str, body: object, **options: Any) -> httpx.Response:
        """Post `body` as JSON, or as it is where it is bytes or a stream."""
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
        return await self.client.post(path, content=body, **options)

    async def predict(self, body: object, model: str = "double", **options: Any) -> httpx.Response:
        return await self.post(f"/predict/{model}", body, **options)

    async def infer(self, body: object, model: str = "double", **options: Any) -> httpx.Response:
        return await self.post(f"/v2/models/{model}/infer", body, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    def live(self, model: str = "double", version: str | None = None) -> LiveVersion:
        return self.gateway.registry.resolve(model, version)

    async def until_waiting(self, count: int, model: str = "double") -> None:
        """Give way until `count` requests wait in the model's queue."""
        await _until(lambda: self.live(model).batcher.statistics().waiting == count)

    async def until_running(self, count: int, model: str = "double") -> None:
        await _until(lambda: self.live(model).batcher.statistics().running == count)


@asynccontextmanager
async def serving(
    *models: Model,
    configuration: Mapping[str, Any] | None = None,
    access: AccessPolicy | None = None,
    readiness_needs_all: bool = False,
    allow_control: bool = False,
) -> AsyncIterator[Service]:
    """An application over `models`; one that is not given a state is ready and has one instance."""
    settings = Configuration.model_validate(configuration or {})
    models = models or (Model(),)
    permits = Permits(16)
    backlog = Backlog(settings.limits.waiting_requests, settings.limits.waiting_bytes)
    metrics = Metrics(lambda: [((live.name, live.version), _gauges(live)) for live in registry.versions()])
    hooks = Hooks(
        on_batch=lambda live, batch: metrics.observe_batch(live.labels, batch),
        on_ready=lambda *_: None,
        on_death=lambda *_: None,
        on_line=lambda *_: None,
        on_state=lambda _: None,
    )
    launcher = Launcher()  # starts nothing until it is asked to

    def make_live(stored: StoredVersion, options: LiveOptions) -> LiveVersion:
        return LiveVersion(stored, options, launcher=launcher, permits=permits, backlog=backlog, hooks=hooks)

    registry = Registry(MemoryRepository(models), settings, make_live)  # type: ignore[arg-type]
    gateway = Gateway(registry, needs_all=readiness_needs_all)
    codec = Codec(launcher, backlog, 1, Compressor(is_on=settings.server.compression))
    recorder = RequestRecorder(metrics, access or AccessPolicy())
    app = create_app(gateway, codec, metrics, recorder, allow_control=allow_control)
    transport = _transport(app, gateway, codec, recorder)
    instances: dict[str, FakeInstance] = {}
    async with (
        asyncio.TaskGroup() as group,
        httpx.AsyncClient(transport=transport, base_url="http://maas") as client,
    ):
        batchers = []
        for model in models:
            if not model.broken:
                live = registry.resolve(model.name, model.version)
                live.state, live.reason = VersionState(model.state), model.reason
                live.example = model.example
                instances[live.label] = instance = FakeInstance(
                    live.signature, model.function, model.seconds, model.fail_with
                )
                live.batcher.attach(instance)
                batchers.append(group.create_task(live.batcher.serve()))
        try:
            yield Service(app, client, gateway, metrics, instances, recorder, backlog)
        finally:
            for batcher in batchers:
                batcher.cancel()
            codec.close()
            await launcher.close()


def _transport(
    app: FastAPI, gateway: Gateway, codec: Codec, recorder: RequestRecorder
) -> httpx.AsyncBaseTransport:
    if DRIVER.get() == "lane":
        return WireTransport(app, gateway, codec, recorder)
    return httpx.ASGITransport(app, raise_app_exceptions=False)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run on a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **arguments: Any) -> None:
        try:
            asyncio.run(test(*args, **arguments))
        except* AssertionError as failed:  # as the test raised it, not as the service's task group wraps it
            raise failed.exceptions[0] from None

    return run


@contextmanager
def recorded_logs(level: str = "info") -> Iterator[list[dict[str, Any]]]:
    """A list that holds the log's lines once the block has ended."""
    stream = io.StringIO()
    lines: list[dict[str, Any]] = []
    with logging_to(stream, level):
        yield lines
    lines += map(json.loads, stream.getvalue().splitlines())


def _gauges(live: LiveVersion) -> Gauges:
    queue, pool = live.statistics()
    return Gauges(queue.waiting, queue.running, {str(s): n for s, n in pool.instances.items()}, pool.deaths)


async def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0)
    raise AssertionError("what was waited for never came")
