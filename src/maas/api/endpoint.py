"""The ASGI driver of the hot routes: one inference request, from its headers to its answer.

A dialect gives a pair of pure functions, parse and render, and the codec runs them; this is all that stands between them
and the gateway. It
sits on the application's router directly, for a validated FastAPI operation costs more than the model does.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Generic

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from maas.api.body import Body, check_media
from maas.api.codec import Codec
from maas.api.door import LATE
from maas.api.errors import headers_of, public, status_of
from maas.api.operation import F, Operation, Subject
from maas.api.request_id import request_id_of
from maas.api.terms import parse_priority, parse_timeout
from maas.errors import Draining
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder
from maas.types import Answer

HeaderList = list[tuple[bytes, bytes]]


class InferenceEndpoint(Generic[F]):
    """An ASGI application for the path parameters `model` and, where the route has it, `version`."""

    def __init__(
        self, operation: Operation[F], gateway: Gateway, codec: Codec, recorder: RequestRecorder
    ) -> None:
        self._operation = operation
        self._gateway = gateway
        self._codec = codec
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic() - scope.get(LATE, 0.0)
        headers = Headers(scope=scope)
        request_id = request_id_of(scope)
        live: LiveVersion | None = None
        body = self._codec.new_body()
        try:
            live = self._gateway.resolve(scope["path_params"]["model"], scope["path_params"].get("version"))
            self._gateway.admit(live)
            check_media(headers)
            terms = Terms(started, parse_timeout(headers), parse_priority(headers))
            await body.read(receive, headers, live.body_limit)
            try:
                answer, content = await self._ask(live, body, terms)
            except Draining:
                live = self._successor_of(live, scope)
                answer, content = await self._ask(live, body, terms)
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
            await _respond(send, 200, content, extra)
        finally:
            body.release()

    async def _ask(self, live: LiveVersion, body: Body, terms: Terms) -> tuple[Answer, bytes | memoryview]:
        subject = Subject(live.name, live.version, live.signature, live.manifest.allow_non_finite)
        call = await self._codec.parse(self._operation, subject, body, terms.deadline_for(live))
        if call.timeout is not None:
            terms = replace(terms, timeouts=(*terms.timeouts, call.timeout))
        answer = await self._gateway.infer(live, call.inputs, terms)
        deadline = terms.deadline_for(live)
        return answer, await self._codec.render(self._operation, subject, call.form, answer, deadline)

    def _successor_of(self, live: LiveVersion, scope: Scope) -> LiveVersion:
        """The version that has taken the place of `live` while the body came in; else the refusal stands."""
        successor = self._gateway.resolve(live.name, scope["path_params"].get("version"))
        self._gateway.admit(successor)
        return successor


async def _respond(send: Send, status: int, body: bytes | memoryview, extra: HeaderList) -> None:
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
