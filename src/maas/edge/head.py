"""What the head of a request says, decided without I/O. The parser (llhttp) refuses most of what is malformed; this is
what it leaves open and what RFC 9112 demands."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

import httptools
import msgspec

from maas.api.routes import Target
from maas.api.terms import Asked, read_asked
from maas.errors import InvalidRequest, MaasError

Headers = list[tuple[bytes, bytes]]

WATCHED = frozenset((b"host", b"origin", b"content-length", b"transfer-encoding", b"expect"))
"""Names of the headers by which a request is judged before it is one."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How the body comes: `length` bytes, or None where it is chunked; and whether the client waits for a 100."""

    length: int | None
    expects_continue: bool


class Head(msgspec.Struct):
    """A head that was judged and found right. `target` is the inference that it asks for, None where it asks for something
    else; `asked` is what it asks for with that, None where it cannot be read."""

    method: str
    version: str
    url: bytes
    path: str
    headers: Headers
    framing: Framing
    target: Target | None
    asked: Asked | None


_EMPTY = Framing(0, False)
_CHUNKED = Framing(None, False)


def read_framing(version: str, watched: Headers) -> Framing:
    """From the headers named in `WATCHED`. Raises `InvalidRequest` for a head that two readers could understand
    differently: that is what requests are smuggled with."""
    if version not in ("1.1", "1.0"):
        raise InvalidRequest(f"HTTP/{version} is not spoken here; HTTP/1.1 is")
    hosts = 0
    lengths: list[bytes] = []
    codings: list[bytes] = []
    expects_continue = False
    for name, value in watched:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            expects_continue = version == "1.1"  # before that nobody waited
    if hosts != 1 and (hosts > 1 or version == "1.1"):
        raise InvalidRequest(f"the request has {hosts} Host headers; it must have one")
    if codings:
        _check_coding(version, codings, lengths)
        return Framing(None, True) if expects_continue else _CHUNKED
    if not lengths:
        return _EMPTY
    return Framing(_parse_length(lengths), expects_continue)


def _check_coding(version: str, codings: list[bytes], lengths: list[bytes]) -> None:
    if lengths:
        raise InvalidRequest("the request has Content-Length and Transfer-Encoding; it may have one of them")
    if version == "1.0":
        raise InvalidRequest("Transfer-Encoding is not part of HTTP/1.0")
    if len(codings) > 1 or codings[0].strip().lower() != b"chunked":
        raise InvalidRequest("Transfer-Encoding must be `chunked`; no other coding is read here")


def _parse_length(lengths: list[bytes]) -> int:
    if len(lengths) > 1 or not lengths[0].strip().isdigit():
        raise InvalidRequest("Content-Length must be one number")
    return int(lengths[0])


def split_target(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target, as they came. Raises `InvalidRequest` where there is no path."""
    if url[:1] == b"/" and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        raise InvalidRequest("the request's target is no URL") from None
    if not parsed.path:
        raise InvalidRequest("the request's target has no path")
    return parsed.path, parsed.query or b""


def decode_path(raw: bytes) -> str:
    """The path as text. Raises `InvalidRequest` where it holds a byte that must be escaped."""
    if not raw.isascii():
        raise InvalidRequest("the request's target holds bytes that must be escaped")
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path


def size_of(url: bytes, headers: Headers) -> int:
    """Bytes of the head, but for the method, the version and what stands around values."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def asked_of(headers: Headers) -> Asked | None:
    """What a head asks for with an inference; None where that cannot be read."""
    try:
        return read_asked(headers)
    except MaasError:
        return None
