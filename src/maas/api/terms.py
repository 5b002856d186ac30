"""The terms on which a caller sends a request, as headers: how long it may take, how urgent it is, and what its body is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from maas.api.codings import Accepted, read_accepted, read_codings
from maas.api.request_id import HEADER, plain_id
from maas.batching.priority import Priority
from maas.errors import InvalidRequest, UnsupportedMedia
from maas.types import clip

PRIORITIES = {priority.name.lower(): priority for priority in Priority}

_JSON_SIZE = b"inference-header-content-length"
OCTETS = "application/octet-stream"
_MAX_DIGITS = 18
_NAMES = frozenset(
    (
        b"content-type",
        b"content-encoding",
        b"accept-encoding",
        b"x-request-timeout",
        b"x-request-priority",
        HEADER,
        _JSON_SIZE,
    )
)

_JSON_TYPES = (
    "",
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
)  # the last is curl's default


class Asked(msgspec.Struct, frozen=True):
    """What a head asks for: at most `timeout` seconds, a priority, to be called by `request_id`, if it names one, and to have
    its body read as `json_size` bytes of JSON with raw tensors behind, or as JSON alone."""

    timeout: float = math.inf
    priority: Priority = Priority.STANDARD
    request_id: bytes | None = None
    json_size: int | None = None
    is_octets: bool = False
    """The body is said to be bytes of some kind, which only a dialect with raw tensors knows to read."""
    codings: tuple[str, ...] = ()
    """How the body is compressed, if it is, in the order in which that is undone."""
    accepted: Accepted | None = None
    """How the answer may be compressed, if it may."""


def read_asked(headers: Iterable[tuple[bytes, bytes]]) -> Asked:
    """`X-Request-Timeout`, in seconds, `X-Request-Priority`, `X-Request-Id`, `Inference-Header-Content-Length`, and what is
    said of the body's type and codings and of the answer's.

    Raises `InvalidRequest` where they cannot be read, and `UnsupportedMedia` unless the body says it is, or may be, JSON, or
    JSON with raw tensors behind.
    """
    timeout = math.inf
    priority = Priority.STANDARD
    request_id: bytes | None = None
    media: bytes | None = None
    encoding: bytes | None = None
    size: bytes | None = None
    accepting = b""
    for name, value in headers:
        if name not in _NAMES:
            continue
        if name == b"content-type":
            media = _one(media, value, "Content-Type")
        elif name == b"content-encoding":
            encoding = _one(encoding, value, "Content-Encoding")
        elif name == b"accept-encoding":
            accepting = b"%b,%b" % (accepting, value)  # a list, which may come in several lines
        elif name == b"x-request-timeout":
            timeout = min(timeout, check_timeout(value.decode("latin-1"), "X-Request-Timeout", "seconds"))
        elif name == b"x-request-priority":
            priority = check_priority(value.decode("latin-1"))
        elif name == _JSON_SIZE:
            size = _one(size, value, "Inference-Header-Content-Length")
        else:
            request_id = request_id or plain_id(value)
    return Asked(
        timeout,
        priority,
        request_id,
        json_size=None if size is None else _parse_size(size),
        is_octets=_check_type(media or b""),
        codings=read_codings(encoding or b""),
        accepted=read_accepted(accepting),
    )


def _one(former: bytes | None, value: bytes, name: str) -> bytes:
    """`value`, unless the head says another one too: who reads the first and who reads the last would not agree."""
    if former is not None and former != value:
        both = " and ".join(repr(clip(each.decode("latin-1"))) for each in (former, value))
        raise InvalidRequest(f"{name} is given twice, as {both}")
    return value


def _parse_size(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        shown = clip(value.decode("latin-1"))
        raise InvalidRequest(f"Inference-Header-Content-Length is {shown!r}; it must be a number of bytes")
    return int(value)


@lru_cache(256)
def _check_type(value: bytes) -> bool:
    """Whether the body is said to be octets, and not JSON."""
    media = value.decode("latin-1").partition(";")[0].strip().lower()
    if media == OCTETS:
        return True
    if media not in _JSON_TYPES and not media.endswith("+json"):
        raise UnsupportedMedia(f"content type {clip(media)!r} is not read here; send application/json")
    return False


def check_priority(text: str) -> Priority:
    """Raises `InvalidRequest` for a word that names none."""
    priority = PRIORITIES.get(text.strip().lower())
    if priority is None:
        raise InvalidRequest(f"X-Request-Priority is {clip(text)!r}; it is one of {', '.join(PRIORITIES)}")
    return priority


def check_timeout(value: object, name: str, unit: str) -> float:
    """`value` as a number of `unit`. Raises `InvalidRequest` unless it is a positive, finite one."""
    try:
        number = (
            float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
        )
    except (ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InvalidRequest(f"{name} is {clip(str(value))!r}; it must be a positive number of {unit}")
    return number
