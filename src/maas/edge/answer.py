"""The bytes of a whole answer that leaves at once: one of the lane's, or an error of our tree that no endpoint gives."""

from __future__ import annotations

from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from maas.api.door import render_error
from maas.api.errors import headers_of, status_of
from maas.api.exchange import Reply
from maas.api.request_id import choose_request_id
from maas.errors import MaasError


def reply_to(error: MaasError, path: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Reply, bytes]:
    """`error` in the dialect of the path, and the request's id; `headers` are the request's, as far as they are known."""
    request_id = choose_request_id(headers)
    content = render_error(path, error, request_id.decode())
    reply = Reply(status_of(error), [(b"content-type", b"application/json"), *headers_of(error)], content)
    return reply, request_id


def render_head(reply: Reply, request_id: bytes, *, default_headers: bytes, keep_alive: bool) -> bytes:
    """All that stands before the content."""
    lines = [b"%b: %b\r\n" % header for header in reply.headers]
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"%b%bcontent-length: %d\r\nx-request-id: %b\r\n%b%b" % (
        STATUS_LINE[reply.status],
        default_headers,
        len(reply.content),
        request_id,
        b"".join(lines),
        end,
    )
