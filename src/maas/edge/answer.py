"""The bytes of an answer that no endpoint gives: an error of our tree, in the dialect of the path."""

from __future__ import annotations

from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from maas.api.door import render_error
from maas.api.errors import headers_of, status_of
from maas.api.request_id import choose_request_id
from maas.errors import MaasError


def render_answer(
    error: MaasError,
    path: str,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    default_headers: bytes,
    keep_alive: bool,
    has_body: bool = True,
) -> bytes:
    """`headers` are the request's, as far as they are known. An answer to HEAD has no body, but its length."""
    request_id = choose_request_id(headers)
    body = render_error(path, error, request_id.decode())
    lines = [
        STATUS_LINE[status_of(error)],
        default_headers,
        b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        % (len(body), request_id),
    ]
    lines += [b"%b: %b\r\n" % header for header in headers_of(error)]
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    if has_body:
        lines.append(body)
    return b"".join(lines)
