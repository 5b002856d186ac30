"""Request ids: taken from `X-Request-Id` where it is plain, else made, and echoed on every answer."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADER = b"x-request-id"
_PLAIN = re.compile(rb"[!-~]{1,128}")
_KEY = "maas.request_id"


def request_id_of(scope: Scope) -> str:
    """The id that the middleware has given the request."""
    found: str = scope[_KEY]
    return found


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The caller's own id where it is plain, else a new one."""
    for name, value in headers:
        if name == _HEADER and _PLAIN.fullmatch(value):
            return value
    return secrets.token_hex(8).encode()


class RequestIds:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = choose_request_id(scope["headers"])
        scope[_KEY] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)
