"""The bytes of a whole answer that leaves at once: one of the lane's, or an error of our tree that no endpoint gives."""

from __future__ import annotations

from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from maas.api.door import render_error
from maas.api.errors import headers_of, status_of
from maas.api.reply import JSON_FIELDS, Reply
from maas.api.request_id import choose_request_id
from maas.errors import MaasError

JOINED = 64 << 10  # bytes of a body that is worth copying to leave with its head


def reply_to(error: MaasError, path: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Reply, bytes]:
    """`error` in the dialect of the path, and the request's id; `headers` are the request's, as far as they are known."""
    request_id = choose_request_id(headers)
    content = render_error(path, error, request_id.decode())
    return Reply(status_of(error), JSON_FIELDS, headers_of(error), content), request_id


def render_head(reply: Reply, request_id: bytes, *, default_headers: bytes, keep_alive: bool) -> bytes:
    """All that stands before the content."""
    return b"%b%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n%b" % (
        STATUS_LINE[reply.status],
        default_headers,
        reply.fields.lines,
        b"".join([b"%b: %b\r\n" % header for header in reply.extra]),
        len(reply.content),
        request_id,
        b"\r\n" if keep_alive else b"connection: close\r\n\r\n",
    )
