"""The ASGI driver of the hot routes: one inference request, from its headers to its answer.

A dialect gives a pair of pure functions, parse and render; this is all that stands between them and the gateway. It
sits on the application's router directly, for a validated FastAPI operation costs more than the model does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from maas.api.body import check_media, read_body
from maas.api.errors import headers_of, public, status_of
from maas.api.request_id import request_id_of
from maas.api.terms import parse_priority, parse_timeout
from maas.errors import Draining, MaasError
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder
from maas.types import Answer, Tensors

HeaderList = list[tuple[bytes, bytes]]


class Call(Protocol):
    """A parsed request; a dialect's own holds what rendering needs besides."""

    @property
    def inputs(self) -> Tensors: ...

    @property
    def timeout(self) -> float | None:
        """Seconds that the request itself says it may take; None where it does not."""


C = TypeVar("C", bound=Call)


@dataclass(frozen=True, slots=True)
class Operation(Generic[C]):
    """An inference operation of a dialect, as pure functions.

    `parse` raises `InvalidRequest`; `render` may raise `ModelFailed`, where an answer cannot be said in the dialect;
    `render_error` gives the body for an error and the request's id.
    """

    parse: Callable[[LiveVersion, bytes], C]
    render: Callable[[LiveVersion, C, Answer], bytes]
    render_error: Callable[[MaasError, str], bytes]


class InferenceEndpoint(Generic[C]):
    """An ASGI application for the path parameters `model` and, where the route has it, `version`."""

    def __init__(self, operation: Operation[C], gateway: Gateway, recorder: RequestRecorder) -> None:
        self._operation = operation
        self._gateway = gateway
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        headers = Headers(scope=scope)
        request_id = request_id_of(scope)
        live: LiveVersion | None = None
        try:
            live = self._gateway.resolve(scope["path_params"]["model"], scope["path_params"].get("version"))
            self._gateway.admit(live)
            check_media(headers)
            terms = Terms(started, parse_timeout(headers), parse_priority(headers))
            request = await read_body(receive, headers, live.body_limit)
            try:
                call, answer = await self._ask(live, request, terms)
            except Draining:
                live = self._successor_of(live, scope)
                call, answer = await self._ask(live, request, terms)
            body = self._operation.render(live, call, answer)
        except Exception as error:  # what is not of our tree is a bug: logged whole, answered opaquely
            total = time.monotonic() - started
            self._recorder.failed((live.name, live.version) if live else None, request_id, error, total)
            shown = public(error)
            extra = [*_version_headers(live), *headers_of(error), _timing_header(total)]
            await _respond(send, status_of(error), self._operation.render_error(shown, request_id), extra)
        else:
            total = time.monotonic() - started
            self._recorder.answered((live.name, live.version), request_id, answer.timings, total)
            extra = [*_version_headers(live), _timing_header(total, answer)]
            await _respond(send, 200, body, extra)

    async def _ask(self, live: LiveVersion, body: bytes, terms: Terms) -> tuple[C, Answer]:
        call = self._operation.parse(live, body)
        if call.timeout is not None:
            terms = replace(terms, timeouts=(*terms.timeouts, call.timeout))
        return call, await self._gateway.infer(live, call.inputs, terms)

    def _successor_of(self, live: LiveVersion, scope: Scope) -> LiveVersion:
        """The version that has taken the place of `live` while the body came in; else the refusal stands."""
        successor = self._gateway.resolve(live.name, scope["path_params"].get("version"))
        self._gateway.admit(successor)
        return successor


async def _respond(send: Send, status: int, body: bytes, extra: HeaderList) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _version_headers(live: LiveVersion | None) -> HeaderList:
    if live is None:
        return []
    return [(b"x-model-version", live.label.encode()), (b"x-model-digest", live.digest.encode())]


def _timing_header(total: float, answer: Answer | None = None) -> tuple[bytes, bytes]:
    """Milliseconds by part, as the W3C's Server Timing has them."""
    parts = f"total;dur={total * 1e3:.3f}"
    if answer is not None:
        timings = answer.timings
        parts = f"queue;dur={timings.queue * 1e3:.3f}, compute;dur={timings.compute * 1e3:.3f}, {parts}"
    return b"server-timing", parts.encode()
