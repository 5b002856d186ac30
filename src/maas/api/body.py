"""Bodies: read under a limit, told apart by type, JSON in and out."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive

from maas.errors import InvalidRequest, TooLarge, UnsupportedMedia
from maas.types import clip

_JSON_TYPES = (
    "",
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
)  # the last is curl's default
_MAX_SLOW_JSON = 8 << 20  # bytes that the second parser reads


def check_media(headers: Headers) -> None:
    """Raise `UnsupportedMedia` unless the body says it is, or may be, plain JSON."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _JSON_TYPES and not media.endswith("+json"):
        raise UnsupportedMedia(f"content type {clip(media)!r} is not read here; send application/json")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(
            f"content encoding {clip(encoding)!r} is not read here; send the body as it is"
        )


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """The whole body. Raises `TooLarge` as soon as it is known to be over `limit` bytes."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise TooLarge(f"the body has {clip(length, 20)} bytes; the limit is {limit}")
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("the connection was closed before the body was complete")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes, which is the limit")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def parse_object(body: bytes, *, allow_non_finite: bool) -> dict[str, Any]:
    """The JSON object in `body`. Raises `InvalidRequest` for anything else.

    The fast parser refuses the bare literals NaN and Infinity; where they are allowed, and may be what it refused, a
    slower one reads the body again.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not allow_non_finite or (b"NaN" not in body and b"Infinity" not in body):
            raise InvalidRequest(f"the body is no JSON: {error}") from None
        value = _parse_with_literals(body)
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body is a JSON {_kind(value)}; expected an object")
    return value


def dump(value: Any, *, is_finite: bool) -> bytes:
    """JSON of nested containers and arrays; with bare NaN and Infinity where `is_finite` does not rule them out."""
    if is_finite:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=_to_list, separators=(",", ":")).encode()


def _to_list(value: Any) -> Any:
    return value.tolist()  # arrays and NumPy's scalars


def _parse_with_literals(body: bytes) -> Any:
    if len(body) > _MAX_SLOW_JSON:
        raise InvalidRequest(
            f"a body with NaN or Infinity may have {_MAX_SLOW_JSON} bytes; this one has {len(body)}"
        )
    try:
        return json.loads(body.decode("utf-8"), parse_float=_finite_float)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {clip(str(error))}") from None


def _finite_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"number {clip(text)} overflows a 64-bit float")


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
