"""The gateway: the one path of a request, whatever the protocol it came by.

A dialect resolves the version, is admitted, decodes the body by its signature, asks `infer`, and renders the answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from maas.batching.priority import Priority
from maas.batching.request import Answer, Outcome, Request
from maas.errors import Draining, InvalidRequest
from maas.models.live import LiveVersion, VersionState
from maas.models.registry import Registry
from maas.tensors.check import check_inputs
from maas.tensors.defaults import complete
from maas.types import Tensors

_SHUTTING_DOWN = "the server is shutting down"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Why the server may not be sent traffic, if it may not; and which versions failed, with their reasons."""

    reason: str
    failed: dict[str, str]

    @property
    def is_ready(self) -> bool:
        return not self.reason


class Terms(msgspec.Struct):
    """What a caller asks for beside the answer: `timeout`, in seconds from `arrived` (monotonic), ends the wait, if the
    model's own is not shorter."""

    arrived: float
    timeout: float = math.inf
    priority: Priority = Priority.STANDARD

    def deadline_for(self, live: LiveVersion) -> float:
        return self.arrived + min(live.request_timeout, self.timeout)


class Gateway:
    """With `needs_all`, which may be set anew, the server is ready only when no version has failed."""

    def __init__(self, registry: Registry, *, needs_all: bool = False) -> None:
        self.registry = registry
        self.needs_all = needs_all
        self.is_leaving = False
        """The server will shut down: it is not ready for traffic any more, and takes what comes until it is draining."""
        self.is_draining = False

    def resolve(self, name: str, version: str | None = None) -> LiveVersion:
        """The version that a request means. Raises `ModelNotFound` where there is none."""
        return self.registry.resolve(name, version)

    def admit(self, live: LiveVersion) -> None:
        """Raise `Draining` or `ModelNotReady` unless the version may be asked now, before a body is read for it."""
        if self.is_draining:
            raise Draining(_SHUTTING_DOWN)
        if live.state is not VersionState.READY:
            live.check_ready()

    def readiness(self) -> Readiness:
        """Not ready while starting, while leaving or draining, and where no version can run a request right now."""
        versions = self.registry.versions()
        failed = {broken.label: broken.reason for broken in self.registry.broken}
        failed |= {live.label: live.reason for live in versions if live.state is VersionState.FAILED}
        if self.is_leaving or self.is_draining:
            return Readiness(_SHUTTING_DOWN, failed)
        if not self.registry.has_started:
            return Readiness("the server is starting", failed)
        if all(live.outage for live in versions):
            return Readiness("no model is ready", failed)
        if self.needs_all and failed:
            return Readiness("not every model is ready", failed)
        return Readiness("", failed)

    def outage_of(self, live: LiveVersion) -> str:
        """Why the version should not be sent traffic; empty where it may be."""
        return _SHUTTING_DOWN if self.is_leaving or self.is_draining else live.outage

    def submit(
        self, live: LiveVersion, inputs: Tensors, terms: Terms, on_outcome: Callable[[Outcome], None]
    ) -> Request:
        """Queue a request; `on_outcome` is called once, later, with its outcome, unless it is abandoned. What `inputs` lack has
        its default.

        Raises `InvalidRequest` where `inputs` are not what the version declares, and whatever refuses the request.
        """
        if live.signature.has_defaults:
            inputs = complete(live.signature, inputs)
        rows = check_inputs(live.signature, inputs)
        if rows > live.policy.max_batch_size:
            raise InvalidRequest(
                f"the request has {rows} rows; model {live.label!r} accepts {live.policy.max_batch_size}"
            )
        request = Request(inputs, rows, terms.deadline_for(live), on_outcome, terms.priority)
        live.batcher.submit(request)
        return request

    async def infer(self, live: LiveVersion, inputs: Tensors, terms: Terms) -> Answer:
        """The caller's own rows of every output.

        Raises what `submit` does, and whatever expires or fails the request. Cancelled, it takes the request off the
        queue, or drops its rows of a running batch.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = self.submit(live, inputs, terms, _completing(answer))
        try:
            return await answer
        finally:
            if not request.is_done:
                live.batcher.abandon(request)


def _completing(answer: asyncio.Future[Answer]) -> Callable[[Outcome], None]:
    """What completes a request by settling the future that its caller awaits, unless the caller has left."""

    def settle(outcome: Outcome) -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    return settle
