"""One inference request, from its head to its answer: what every driver of a hot route does, whatever the protocol.

Of HTTP (`maas.api.reply`) there are two drivers, an ASGI application (`maas.api.endpoint`) and one straight from and to the
connection (`maas.edge.lane`); of gRPC there is one (`maas.api.grpc.asking`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from maas.api.operation import Call
from maas.batching.request import Outcome, Request, Timings
from maas.errors import Draining, MaasError
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

HeaderList = list[tuple[bytes, bytes]]

T = TypeVar("T")

SPENT = b"server-timing"


class Exchange(msgspec.Struct, eq=False):
    """Recorded once: as answered, refused or failed. Each of these returns what `Server-Timing` says of it. `live` is known
    once it is open."""

    gateway: Gateway
    recorder: RequestRecorder
    request_id: bytes
    terms: Terms
    live: LiveVersion | None = None

    def open(self, model: str, version: str | None) -> LiveVersion:
        """The version that is asked. Raises `ModelNotFound`, and what refuses it any request."""
        self.live = live = self.gateway.resolve(model, version)
        self.gateway.admit(live)
        return live

    async def ask(self, model: str, version: str | None, ask: Callable[[LiveVersion], Awaitable[T]]) -> T:
        """What `ask` makes of the version that is open, or of the one that takes its place meanwhile."""
        assert self.live is not None
        try:
            return await ask(self.live)
        except Draining:
            return await ask(self.open(model, version))

    def submit(self, call: Call[Any], complete: Callable[[Outcome], None]) -> Request:
        """Queue the request; `complete` is called once, later, with its outcome. Raises what `Gateway.submit` does."""
        assert self.live is not None
        self.heed(call)
        return self.gateway.submit(self.live, call.inputs, self.terms, complete)

    def heed(self, call: Call[Any]) -> None:
        """Keep to the time and the priority that the body asks for, if it does."""
        if call.timeout is not None:
            self.terms.timeout = min(self.terms.timeout, call.timeout)
        if call.priority is not None:
            self.terms.priority = call.priority

    def record_answer(self, live: LiveVersion, timings: Timings) -> bytes:
        total = time.monotonic() - self.terms.arrived
        self.recorder.answered(live.labels, self.request_id, timings, total)
        return b"queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f" % (
            timings.queue * 1e3,
            timings.compute * 1e3,
            total * 1e3,
        )

    def record_refusal(self, error: MaasError) -> bytes:
        """Turned away before its body was looked at: counted, but no news."""
        self.recorder.turned_away(self.live.labels if self.live else None, error.code)
        return _total(time.monotonic() - self.terms.arrived)

    def record_failure(self, error: Exception) -> bytes:
        """What is not of our tree is a bug: logged whole, answered opaquely."""
        total = time.monotonic() - self.terms.arrived
        labels = self.live.labels if self.live else None
        self.recorder.failed(labels, self.request_id.decode(), error, total)
        return _total(total)


def version_headers(label: str, digest: str) -> HeaderList:
    """What stands beside every answer of a version, as headers or as metadata."""
    return [(b"x-model-version", label.encode()), (b"x-model-digest", digest.encode())]


def _total(seconds: float) -> bytes:
    return b"total;dur=%.3f" % (seconds * 1e3)
