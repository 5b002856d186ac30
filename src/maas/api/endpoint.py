"""The ASGI driver of the hot routes, for every server and every request that the fast lane does not take.

The application has it before its middlewares and its router, for a validated FastAPI operation costs more than the model does.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from starlette.types import Receive, Scope, Send

from maas.api.body import Body
from maas.api.codec import Codec
from maas.api.operation import Payload
from maas.api.reply import HttpExchange, Reply
from maas.api.request_id import HEADER, choose_request_id, new_request_id
from maas.api.routes import Target, find_target
from maas.api.terms import Asked, read_asked
from maas.batching.request import Answer
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

# What a server of ours has found out by a request's head, in its scope.
TARGET = "maas.target"
ASKED = "maas.asked"  # None where it cannot be read, which is for the endpoint to say
LATE = "maas.late"  # seconds that the request had waited when it was first looked at

REPLY = "maas.reply"
"""Our extension of ASGI: a server that has it in the scope takes a `reply` and its `request_id` in one message of that type."""


def is_inference(scope: Scope) -> bool:
    """Whether the request is for the endpoint; its target is in the scope then."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    if TARGET not in scope:
        scope[TARGET] = find_target(scope["path"].removeprefix(scope.get("root_path", "")))
    return scope[TARGET] is not None


class InferenceEndpoint:
    """An ASGI application for requests that are inference."""

    def __init__(self, gateway: Gateway, codec: Codec, recorder: RequestRecorder) -> None:
        self._gateway = gateway
        self._codec = codec
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        terms = Terms(time.monotonic() - scope.get(LATE, 0.0))
        target: Target = scope[TARGET]
        asked: Asked | None = scope.get(ASKED)
        headers = scope["headers"]
        request_id = choose_request_id(headers) if asked is None else asked.request_id or new_request_id()
        exchange = HttpExchange(self._gateway, self._recorder, request_id, terms, operation=target.operation)
        body = self._codec.new_body()
        try:
            live = exchange.open(target.model, target.version)
            asked = asked or read_asked(headers)
            exchange.agree(asked)
            self._codec.compressor.check(asked.codings)
            await body.read(receive, headers, live.body_limit)
            if asked.codings:
                deadline = exchange.terms.deadline_for(live)
                await self._codec.inflate(body, asked.codings, live.body_limit, deadline)
            asking = partial(self._infer, exchange, body, asked.json_size)
            # Another version may take the place of the one that was meant while the body comes in.
            reply = exchange.answered(*await exchange.ask(target.model, target.version, asking))
        except Exception as error:
            reply = exchange.failed(error)
        finally:
            body.release()
        if REPLY in scope.get("extensions", ()):
            await send({"type": REPLY, "reply": reply, "request_id": request_id})
        else:
            await _respond(send, reply, request_id)

    async def _infer(
        self, exchange: HttpExchange[Any], body: Body, json_size: int | None, live: LiveVersion
    ) -> tuple[Answer, Payload]:
        deadline = exchange.terms.deadline_for(live)
        call = await self._codec.parse(exchange.operation, live, body, json_size, deadline)
        exchange.heed(call)
        answer = await self._gateway.infer(live, call.inputs, exchange.terms)
        deadline = exchange.terms.deadline_for(live)
        payload = await self._codec.render(exchange.operation, live, call.form, answer, deadline)
        return answer, await self._codec.compress(payload, exchange.accepted)


async def _respond(send: Send, reply: Reply, request_id: bytes) -> None:
    length = (b"content-length", b"%d" % len(reply.content))
    headers = [*reply.fields.headers, *reply.extra, length, (HEADER, request_id)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})
