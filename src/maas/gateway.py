"""The gateway: the one path of a request, whatever the protocol it came by.

A dialect resolves the version, is admitted, decodes the body by its signature, asks `infer`, and renders the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from maas.batching.batcher import Outcome, Request
from maas.errors import Draining, InvalidRequest
from maas.models.live import LiveVersion, VersionState
from maas.models.registry import Registry
from maas.tensors.check import check_inputs
from maas.types import Answer, Tensors


@dataclass(frozen=True, slots=True)
class Readiness:
    """Why the server may not be sent traffic, if it may not; and which versions failed, with their reasons."""

    reason: str
    failed: dict[str, str]

    @property
    def is_ready(self) -> bool:
        return not self.reason


class Gateway:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.is_draining = False

    def resolve(self, name: str, version: str | None = None) -> LiveVersion:
        """The version that a request means. Raises `ModelNotFound` where there is none."""
        return self.registry.resolve(name, version)

    def admit(self, live: LiveVersion) -> None:
        """Raise `Draining` or `ModelNotReady` unless the version may be asked now, before a body is read for it."""
        if self.is_draining:
            raise Draining("the server is shutting down")
        live.check_ready()

    def readiness(self) -> Readiness:
        """Not ready while starting, while draining, and where no version is ready."""
        versions = self.registry.versions()
        failed = {f"{broken.name}/{broken.version}": broken.reason for broken in self.registry.broken}
        failed |= {live.label: live.reason for live in versions if live.state is VersionState.FAILED}
        if self.is_draining:
            return Readiness("the server is shutting down", failed)
        if not self.registry.has_started:
            return Readiness("the server is starting", failed)
        if not any(live.state is VersionState.READY for live in versions):
            return Readiness("no model is ready", failed)
        return Readiness("", failed)

    async def infer(self, live: LiveVersion, inputs: Tensors) -> Answer:
        """The caller's own rows of every output.

        Raises `InvalidRequest` where `inputs` are not what the version declares, and whatever refuses, expires or
        fails the request. Cancelled, it takes the request off the queue, or drops its rows of a running batch.
        """
        rows = check_inputs(live.signature, inputs)
        if rows > live.policy.max_batch_size:
            raise InvalidRequest(
                f"the request has {rows} rows; model {live.label!r} accepts {live.policy.max_batch_size}"
            )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = Request(inputs, rows, time.monotonic() + live.request_timeout, _completing(answer))
        live.batcher.submit(request)
        try:
            return await answer
        finally:
            if not request.is_done:
                live.batcher.abandon(request)


def _completing(answer: asyncio.Future[Answer]) -> Callable[[Outcome], None]:
    """What completes a request by settling the future that its caller awaits, unless the caller has left."""

    def complete(outcome: Outcome) -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    return complete
