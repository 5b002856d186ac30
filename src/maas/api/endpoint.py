"""The ASGI driver of the hot routes, for every server and every request that the fast lane does not take.

It sits on the application's router directly, for a validated FastAPI operation costs more than the model does.
"""

from __future__ import annotations

import time
from typing import Generic

from starlette.types import Receive, Scope, Send

from maas.api.body import Body
from maas.api.codec import Codec
from maas.api.door import LATE
from maas.api.exchange import Exchange, Reply
from maas.api.operation import F, Operation, Payload
from maas.api.request_id import request_id_of
from maas.api.terms import read_asked
from maas.batching.request import Answer
from maas.errors import Draining
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder


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
        request_id = request_id_of(scope).encode()
        exchange = Exchange(self._gateway, self._recorder, self._operation, request_id, Terms(started))
        body = self._codec.new_body()
        try:
            answer, payload = await self._ask(exchange, scope, receive, body)
        except Exception as error:
            await _respond(send, exchange.failed(error))
        else:
            await _respond(send, exchange.answered(answer, payload))
        finally:
            body.release()

    async def _ask(
        self, exchange: Exchange[F], scope: Scope, receive: Receive, body: Body
    ) -> tuple[Answer, Payload]:
        named, headers = scope["path_params"], scope["headers"]
        live = exchange.open(named["model"], named.get("version"))
        asked = read_asked(headers)
        exchange.agree(asked)
        await body.read(receive, headers, live.body_limit)
        try:
            return await self._infer(exchange, live, body, asked.json_size)
        except Draining:
            # Another version may have taken the place of the one that was meant while the body came in.
            live = exchange.open(named["model"], named.get("version"))
            return await self._infer(exchange, live, body, asked.json_size)

    async def _infer(
        self, exchange: Exchange[F], live: LiveVersion, body: Body, json_size: int | None
    ) -> tuple[Answer, Payload]:
        deadline = exchange.terms.deadline_for(live)
        call = await self._codec.parse(self._operation, live, body, json_size, deadline)
        exchange.heed(call)
        answer = await self._gateway.infer(live, call.inputs, exchange.terms)
        deadline = exchange.terms.deadline_for(live)
        return answer, await self._codec.render(self._operation, live, call.form, answer, deadline)


async def _respond(send: Send, reply: Reply) -> None:
    length = (b"content-length", b"%d" % len(reply.content))
    headers = [*reply.fields.headers, *reply.extra, length]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})
