"""Request ids: taken from `X-Request-Id` where it is plain, else made, and echoed on every answer."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_PLAIN = re.compile(rb"[!-~]{1,128}")
_KEY = "maas.request_id"

_ids = random.Random()  # noqa: S311 - seeded by the system; a name, no secret


def request_id_of(scope: Scope) -> str:
    """The id that the middleware has given the request."""
    found: str = scope[_KEY]
    return found


def plain_id(value: bytes) -> bytes | None:
    """A caller's own id, unless it could do harm in an answer or a log."""
    return value if _PLAIN.fullmatch(value) else None


def new_request_id() -> bytes:
    """Unlike any other, which is all that is asked of it."""
    return b"%016x" % _ids.getrandbits(64)


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The caller's own id where it is plain, else a new one."""
    for name, value in headers:
        if name == HEADER and plain_id(value):
            return value
    return new_request_id()


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
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)
