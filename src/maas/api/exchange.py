"""One inference request, from its head to its reply: what every driver of a hot route does, and none of it waits.

A driver brings the bytes and takes them away: as an ASGI application (`maas.api.endpoint`), or straight from and to the
connection (`maas.edge.lane`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Generic

import msgspec

from maas.api.errors import headers_of, public, status_of
from maas.api.operation import Call, F, Operation, Payload
from maas.api.terms import OCTETS, Asked
from maas.batching.request import Answer, Outcome, Request
from maas.errors import MaasError, UnsupportedMedia
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

HeaderList = list[tuple[bytes, bytes]]


class Fields(msgspec.Struct, frozen=True):
    """Header fields that many replies share, and the same as the lines that they are on the wire."""

    headers: tuple[tuple[bytes, bytes], ...]
    lines: bytes


def fields(*headers: tuple[bytes, bytes]) -> Fields:
    return Fields(headers, b"".join(b"%b: %b\r\n" % header for header in headers))


_JSON = (b"content-type", b"application/json")
_RAW = (b"content-type", b"application/octet-stream")
JSON_FIELDS = fields(_JSON)


class Reply(msgspec.Struct):
    """What goes back. Its fields and its `extra` ones lack the length and the request's id, which are the driver's to set."""

    status: int
    fields: Fields
    extra: HeaderList
    content: bytes | memoryview


class Exchange(msgspec.Struct, Generic[F], eq=False):
    """Ended once, by `answered`, `refused` or `failed`, which record it. `live` is known once it is open."""

    gateway: Gateway
    recorder: RequestRecorder
    operation: Operation[F]
    request_id: bytes
    terms: Terms
    live: LiveVersion | None = None

    def open(self, model: str, version: str | None) -> LiveVersion:
        """The version that is asked. Raises `ModelNotFound`, and what refuses it any request."""
        self.live = live = self.gateway.resolve(model, version)
        self.gateway.admit(live)
        return live

    def agree(self, asked: Asked) -> None:
        """To what the head asks for. Raises `UnsupportedMedia` where the dialect has no raw tensors."""
        if (asked.is_octets or asked.json_size is not None) and not self.operation.takes_raw:
            raise UnsupportedMedia(f"content type {OCTETS!r} is not read here; send application/json")
        self.terms.timeout = asked.timeout
        self.terms.priority = asked.priority

    def submit(self, call: Call[F], complete: Callable[[Outcome], None]) -> Request:
        """Queue the request; `complete` is called once, later, with its outcome. Raises what `Gateway.submit` does."""
        assert self.live is not None
        self.heed(call)
        return self.gateway.submit(self.live, call.inputs, self.terms, complete)

    def heed(self, call: Call[F]) -> None:
        """Keep to the time and the priority that the body asks for, if it does."""
        if call.timeout is not None:
            self.terms.timeout = min(self.terms.timeout, call.timeout)
        if call.priority is not None:
            self.terms.priority = call.priority

    def answered(self, answer: Answer, payload: Payload) -> Reply:
        live, timings = self.live, answer.timings
        assert live is not None
        total = time.monotonic() - self.terms.arrived
        self.recorder.answered(live.labels, self.request_id, timings, total)
        spent = b"queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f" % (
            timings.queue * 1e3,
            timings.compute * 1e3,
            total * 1e3,
        )
        extra = [(b"server-timing", spent)]
        if payload.json_size is not None:
            extra.append((b"inference-header-content-length", b"%d" % payload.json_size))
        named = _fields_of(live.label, live.digest, payload.json_size is not None)
        return Reply(200, named, extra, payload.data)

    def refused(self, error: MaasError) -> Reply:
        """Turned away before its body was looked at: counted, but no news."""
        self.recorder.turned_away(self.live.labels if self.live else None, error.code)
        return self._reply_to(error, time.monotonic() - self.terms.arrived)

    def failed(self, error: Exception) -> Reply:
        """What is not of our tree is a bug: logged whole, answered opaquely."""
        total = time.monotonic() - self.terms.arrived
        labels = self.live.labels if self.live else None
        self.recorder.failed(labels, self.request_id.decode(), error, total)
        return self._reply_to(error, total)

    def _reply_to(self, error: Exception, total: float) -> Reply:
        live = self.live
        named = _fields_of(live.label, live.digest, False) if live else JSON_FIELDS
        extra = [*headers_of(error), (b"server-timing", b"total;dur=%.3f" % (total * 1e3))]
        content = self.operation.render_error(public(error), self.request_id.decode())
        return Reply(status_of(error), named, extra, content)


@lru_cache(1024)
def _fields_of(label: str, digest: str, is_raw: bool) -> Fields:
    media = _RAW if is_raw else _JSON
    return fields(media, (b"x-model-version", label.encode()), (b"x-model-digest", digest.encode()))
