"""The terms on which a caller sends a request, as headers: how long it may take, and how urgent it is."""

from __future__ import annotations

import math

from starlette.datastructures import Headers

from maas.batching.priority import Priority
from maas.errors import InvalidRequest
from maas.types import clip

PRIORITIES = {priority.name.lower(): priority for priority in Priority}


def parse_timeout(headers: Headers) -> tuple[float, ...]:
    """`X-Request-Timeout` in seconds, if it was sent. Raises `InvalidRequest` unless it is a positive number."""
    text = headers.get("x-request-timeout")
    return () if text is None else (check_timeout(text, "X-Request-Timeout", "seconds"),)


def parse_priority(headers: Headers) -> Priority:
    """`X-Request-Priority`, or the standard one. Raises `InvalidRequest` for a word that names none."""
    text = headers.get("x-request-priority")
    return Priority.STANDARD if text is None else check_priority(text)


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
