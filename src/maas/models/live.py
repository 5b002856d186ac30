"""A live version: a stored one with its batcher and its pool, from loading to drained."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any

from maas.batching.backlog import Backlog
from maas.batching.batcher import Admission, Batcher, BatcherStatistics
from maas.batching.execution import BatchObservation
from maas.batching.permits import Permits
from maas.batching.policy import BatchPolicy
from maas.config import Configuration, ModelOptions
from maas.errors import ModelNotReady
from maas.models.machine import this_machine
from maas.models.manifest import Batching, Manifest, check_cost
from maas.models.repository import StoredVersion
from maas.models.verification import load_frame
from maas.runtimes.contract import Placement
from maas.types import BATCH, CurvePoint, Signature, version_order
from maas.workers.launcher import Launcher
from maas.workers.pool import Pool, PoolStatistics
from maas.workers.standard_output import PrintedLine

_JSON_BYTES_PER_ELEMENT = 32
_JSON_BYTES_AROUND = 64 << 10


class VersionState(StrEnum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a golden sample as nested lists by tensor name; empty where there is none to show."""

    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What of the configuration a version is made with; the last two are of the server, not of one model."""

    model: ModelOptions
    body_bytes: int
    answer_bytes: int
    allow_code: tuple[str, ...]

    @classmethod
    def of(cls, configuration: Configuration, name: str) -> LiveOptions:
        limits = configuration.limits
        return cls(
            configuration.options_of(name), limits.body_bytes, limits.answer_bytes, configuration.allow_code
        )

    @property
    def that_need_a_successor(self) -> tuple[ModelOptions, int]:
        """Which versions are served is not for them to know, and bodies are limited as they go."""
        return self.model.model_copy(update={"versions": "all", "default": None}), self.answer_bytes


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom a live version tells what happens: each answered batch, each instance that is ready (pid) and each that died
    (pid, exit code), each line that one prints, each change of its state. When it has loaded it asks for the `objection` to
    its serving: empty where there is none."""

    on_batch: Callable[[LiveVersion, BatchObservation], None]
    on_ready: Callable[[LiveVersion, int], None]
    on_death: Callable[[LiveVersion, int, int | None], None]
    on_line: Callable[[LiveVersion, PrintedLine], None]
    on_state: Callable[[LiveVersion], None]
    objection: Callable[[LiveVersion], str] = lambda _: ""


class LiveVersion:
    """Loading until its first instance has, then ready until it is drained, or failed when no instance is to be had;
    `reason` says why it is not ready, or, of one that is, what it lacks of what the configuration asks for."""

    def __init__(
        self,
        stored: StoredVersion,
        options: LiveOptions,
        *,
        launcher: Launcher,
        permits: Permits,
        backlog: Backlog,
        hooks: Hooks,
    ) -> None:
        self._options = options
        ours = options.model
        instances, threads = scale_of(stored.manifest, ours)
        self.stored = stored
        self.manifest = stored.manifest
        self.name = stored.manifest.name
        self.version = stored.manifest.version
        self.labels = (self.name, self.version)
        self.label = f"{self.name}/{self.version}"
        self.order = version_order(stored.manifest.version)
        self.digest = stored.digest
        self.signature = stored.manifest.signature
        self.allow_non_finite = stored.manifest.allow_non_finite
        self.policy = _policy(self.signature, stored.manifest.batching, ours)
        self.request_timeout = ours.request_timeout
        self.limit_bodies(options.body_bytes)
        self.settled = asyncio.Event()
        """Set when it has loaded, or failed to."""
        self.state = VersionState.LOADING
        self.reason = "it is loading"
        self.trace = ""
        """What led to its failure, such as a traceback of the model's own code: for the log."""
        self.example = Example()
        self.curve: Sequence[CurvePoint] = ()
        """What batches of different sizes took when it had loaded, one row of its golden sample first."""
        self._hooks = hooks
        self.batcher = Batcher(
            self.label,
            self.signature,
            self.policy,
            Admission(
                ours.queue_size,
                ours.queue_bytes,
                refuses_unreachable=ours.refuse_unreachable,
                is_idempotent=stored.manifest.idempotent,
            ),
            backlog=backlog,
            permits=permits,
            observe=lambda observation: hooks.on_batch(self, observation),
        )
        self._pool = Pool(
            launcher,
            load_frame(
                stored,
                Placement(ours.device, threads),
                max_batch_size=self.policy.max_batch_size,
                max_batch_cost=self.policy.max_batch_cost,
                max_answer_bytes=options.answer_bytes,
                load_timeout=ours.load_timeout,
                allow_code=options.allow_code,
            ),
            self.signature,
            instances,
            compute_timeout=ours.compute_timeout,
            attach=self.batcher.attach,
            detach=self.batcher.detach,
            on_ready=lambda pid: hooks.on_ready(self, pid),
            on_death=lambda pid, code: hooks.on_death(self, pid, code),
            on_line=lambda line: hooks.on_line(self, line),
        )

    def limit_bodies(self, most: int) -> None:
        """Set `body_limit`, the bytes of a JSON body, to what the largest declared request needs, but to `most` at most."""
        self.body_limit = _body_limit(self.signature, self.policy.max_batch_size, most)

    def is_made_for(self, options: LiveOptions) -> bool:
        """Whether one that is made for `options` would be the same."""
        return self._options.that_need_a_successor == options.that_need_a_successor

    def check_ready(self) -> None:
        """Raise `ModelNotReady` with the reason unless requests may be sent."""
        if self.state is not VersionState.READY:
            raise ModelNotReady(f"model {self.label!r} is not ready: {self.reason}")

    @property
    def outage(self) -> str:
        """Why no request can be run right now, though the version is not given up; empty where one can.

        Requests are taken all the same: they wait for the process that is being started.
        """
        if self.state is not VersionState.READY:
            return self.reason or f"it is {self.state}"
        return "" if self.batcher.has_instances else "its processes have died and are being started again"

    async def serve(self) -> None:
        """Load, then run until drained; its processes are gone when this returns."""
        async with asyncio.TaskGroup() as group:
            keepers = [
                group.create_task(self._pool.serve()),
                group.create_task(self._enter_ready()),
                group.create_task(self._enter_failed()),
            ]
            await self.batcher.serve()
            for keeper in keepers:
                keeper.cancel()

    async def drain(self) -> None:
        """Refuse new requests and return when the accepted ones are answered."""
        self.begin_drain()
        await self.batcher.drain()

    def begin_drain(self) -> None:
        """Refuse new requests; `serve` returns when the accepted ones are answered."""
        self._enter(VersionState.DRAINING, "it is draining")
        self.batcher.begin_drain()

    def statistics(self) -> tuple[BatcherStatistics, PoolStatistics]:
        return self.batcher.statistics(), self._pool.statistics()

    async def _enter_ready(self) -> None:
        loaded = await asyncio.shield(self._pool.loaded)
        self.example = Example(loaded.example_inputs, loaded.example_outputs)
        self.curve = loaded.curve
        self.batcher.learn(loaded.curve)
        if objection := self._hooks.objection(self):
            self._pool.give_up(ModelNotReady(objection))  # and so it fails, without ever having been ready
        else:
            self._enter(VersionState.READY, "")

    async def _enter_failed(self) -> None:
        error = await asyncio.shield(self._pool.failed)
        self.trace = error.trace
        self._enter(VersionState.FAILED, error.message)
        self.batcher.fail_waiting(ModelNotReady(f"model {self.label!r} is not ready: {error.message}"))

    def _enter(self, state: VersionState, reason: str) -> None:
        if self.state is VersionState.DRAINING:
            return  # which is the end: a load that ends meanwhile changes nothing
        self.state = state
        self.reason = reason
        if state is not VersionState.LOADING:
            self.settled.set()
        self._hooks.on_state(self)


_DISTANCE_FROM_READY = {
    VersionState.READY: 0,
    VersionState.LOADING: 1,
    VersionState.DRAINING: 2,
    VersionState.FAILED: 3,
}


def highest_of(versions: Iterable[LiveVersion]) -> LiveVersion | None:
    """The one that answers where none is named: one that is ready, or nearest to it, and of these the highest."""
    return max(
        (live for live in versions if live.order is not None),
        key=lambda live: (-_DISTANCE_FROM_READY[live.state], live.order),
        default=None,
    )


def scale_of(manifest: Manifest, options: ModelOptions) -> tuple[int, int]:
    """How many instances, and threads of each: what is configured, else what was measured on a machine like this one."""
    profile = manifest.profile
    is_free = options.instances is None and options.threads is None and options.device == "cpu"
    if is_free and profile is not None and profile.machine == this_machine():
        return profile.instances, profile.threads
    return options.instances or 1, options.threads or 1


def _policy(signature: Signature, batching: Batching, options: ModelOptions) -> BatchPolicy:
    """The manifest's batching, made stricter by the configuration; one row where there is no `batch` to stack along."""
    if not signature.is_batched:
        return BatchPolicy(max_batch_size=1)
    size = batching.max_batch_size
    costs = [cost for cost in (batching.max_batch_cost, options.max_batch_cost) if cost is not None]
    delay = batching.max_queue_delay
    check_cost(signature, min(costs, default=None))
    return BatchPolicy(
        max_batch_size=size if options.max_batch_size is None else min(size, options.max_batch_size),
        max_queue_delay=delay if options.max_queue_delay is None else options.max_queue_delay,
        max_batch_cost=min(costs, default=None),
    )


def _body_limit(signature: Signature, max_batch_size: int, most: int) -> int:
    """Bytes that a JSON body of the largest declared request may have; `most` where the declaration sets no limit."""
    elements = 0
    for spec in signature.inputs:
        lengths = [
            max_batch_size if dim == BATCH else dim if isinstance(dim, int) else signature.limits_of(dim).max
            for dim in spec.dims
        ]
        if spec.dtype == "bytes" or None in lengths:
            return most
        elements += prod(length for length in lengths if length is not None)
    return min(most, _JSON_BYTES_PER_ELEMENT * elements + _JSON_BYTES_AROUND)
