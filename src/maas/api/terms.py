"""The terms on which a caller sends a request, as headers: how long it may take, how urgent it is, and what its body is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from maas.api.request_id import HEADER, plain_id
from maas.batching.priority import Priority
from maas.errors import InvalidRequest, UnsupportedMedia
from maas.types import clip

PRIORITIES = {priority.name.lower(): priority for priority in Priority}

_NAMES = frozenset(
    (b"content-type", b"content-encoding", b"x-request-timeout", b"x-request-priority", HEADER)
)

_JSON_TYPES = (
    "",
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
)  # the last is curl's default


class Asked(msgspec.Struct, frozen=True):
    """What a head asks for: at most `timeout` seconds, a priority, and to be called by `request_id`, if it names one."""

    timeout: float = math.inf
    priority: Priority = Priority.STANDARD
    request_id: bytes | None = None


def read_asked(headers: Iterable[tuple[bytes, bytes]]) -> Asked:
    """`X-Request-Timeout`, in seconds, `X-Request-Priority` and `X-Request-Id`.

    Raises `InvalidRequest` where they cannot be read, and `UnsupportedMedia` unless the body says it is, or may be, plain
    JSON.
    """
    timeout = math.inf
    priority = Priority.STANDARD
    request_id: bytes | None = None
    for name, value in headers:
        if name not in _NAMES:
            continue
        if name == b"content-type":
            _check_type(value)
        elif name == b"content-encoding":
            _check_encoding(value)
        elif name == b"x-request-timeout":
            timeout = min(timeout, check_timeout(value.decode("latin-1"), "X-Request-Timeout", "seconds"))
        elif name == b"x-request-priority":
            priority = check_priority(value.decode("latin-1"))
        else:
            request_id = request_id or plain_id(value)
    return Asked(timeout, priority, request_id)


@lru_cache(256)
def _check_type(value: bytes) -> None:
    media = value.decode("latin-1").partition(";")[0].strip().lower()
    if media not in _JSON_TYPES and not media.endswith("+json"):
        raise UnsupportedMedia(f"content type {clip(media)!r} is not read here; send application/json")


def _check_encoding(value: bytes) -> None:
    encoding = value.decode("latin-1").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(
            f"content encoding {clip(encoding)!r} is not read here; send the body as it is"
        )


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
