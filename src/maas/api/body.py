"""Bodies: read under a limit, JSON in and out.

Parsers disagree on what `{"a": 1, "a": 2}` means, so a name that is given twice in one object is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson
from starlette.types import Receive

from maas.batching.backlog import Backlog
from maas.errors import InvalidRequest, QueueFull, TooLarge
from maas.types import clip

_HELD = 256 << 10  # bytes of a body that is too small to count
_RETRY_SECONDS = 1.0
_MAX_SLOW_JSON = 8 << 20  # bytes that the second parser reads
_MAX_LISTED = 256  # objects in a list whose members are counted
_SAFE_DIGITS = 308  # no whole number of so many, or of fewer, overflows a 64-bit float
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check_length(length: int, limit: int) -> None:
    """Raise `TooLarge` where a body of `length` bytes is over `limit`."""
    if length > limit:
        raise TooLarge(f"the body has {clip(str(length), 20)} bytes; the limit is {limit}")


class Body:
    """A body as it comes in: its parts, and their size in bytes. What is large counts against what the server may hold."""

    def __init__(self, backlog: Backlog) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self._backlog = backlog
        self._held = 0
        self._source = 0  # bytes that are held of what the body is being made of

    async def read(self, receive: Receive, headers: Iterable[tuple[bytes, bytes]], limit: int) -> None:
        """All of it. Raises `TooLarge` as soon as it is known to be over `limit` bytes, `QueueFull` where the server holds
        too many bytes already."""
        length = next((value for name, value in headers if name == b"content-length"), b"")
        if length.isdigit():
            check_length(int(length), limit)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("the connection was closed before the body was complete")
            self.add(message.get("body", b""), limit)
            more = message.get("more_body", False)

    def whole(self) -> bytes:
        if len(self.parts) != 1:
            self.parts = [b"".join(self.parts)]
        return self.parts[0]

    def reopen(self) -> bytes:
        """All of it, to be replaced by what it means, which is added; it counts as long as that is not settled."""
        data = self.whole()
        self.parts = []
        self.size = 0
        self._source, self._held = self._held, 0
        return data

    def settle(self) -> None:
        """What it was made of is not needed any more."""
        self._backlog.let_go(self._source)
        self._source = 0

    def release(self) -> None:
        """It is not needed any more."""
        self.settle()
        self.parts = []
        self._backlog.let_go(self._held)
        self._held = 0

    def add(self, part: bytes, limit: int) -> None:
        """Raises as `read` does."""
        self.size += len(part)
        if self.size > limit:
            raise TooLarge(f"the body has more than {limit} bytes, which is the limit")
        if self.size > _HELD:
            nbytes = self.size - self._held
            if (reason := self._backlog.refusal(nbytes)) is not None:
                raise QueueFull(reason, retry_after=_RETRY_SECONDS)
            self._backlog.hold(nbytes)
            self._held = self.size
        self.parts.append(part)


def parse_object(body: bytes, *, allow_non_finite: bool) -> dict[str, Any]:
    """The JSON object in `body`. Raises `InvalidRequest` for anything else.

    The fast parser refuses the bare literals NaN and Infinity, and does not see that a name is given twice; where the
    literals are allowed, and may be what it refused, or where a name may be doubled, a slower one reads the body again.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not allow_non_finite or (b"NaN" not in body and b"Infinity" not in body):
            raise InvalidRequest(f"the body is no JSON: {error}") from None
        if len(body) > _MAX_SLOW_JSON:
            raise InvalidRequest(
                f"the body is no JSON: {error}; one with bare NaN or Infinity may have {_MAX_SLOW_JSON} bytes, and this one has "
                f"{len(body)}: use binary tensors"
            ) from None
        value = _parse_slowly(body)
    else:
        # A colon too many is in a string, or of a member that another one replaced.
        if (
            len(body) <= _MAX_SLOW_JSON
            and (colons := body.count(b":")) > (len(value) if type(value) is dict else 0)
            and colons > _count_members(value, levels=4)
        ):
            _parse_slowly(body)
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


def _count_members(value: object, levels: int) -> int:
    """Members of the objects in `value`, as far as requests nest them: never more than there are."""
    if type(value) is dict:
        count = len(value)
        parts: Iterable[object] = value.values()
    elif type(value) is list and value and type(value[0]) is dict and len(value) <= _MAX_LISTED:
        count = 0
        parts = value
    else:
        return 0
    if levels:
        for part in parts:
            count += _count_members(part, levels - 1)
    return count


def _parse_slowly(body: bytes) -> Any:
    """Takes the bare literals, and refuses names given twice and lone surrogates."""
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, parse_float=_finite_float, parse_int=_finite_int, object_pairs_hook=_to_object
        )
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {clip(str(error))}") from None
    return value


def _to_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        twice, _ = Counter(name for name, _ in members).most_common(1)[0]
        raise ValueError(f"a name is given twice in one object: {clip(twice, 40)!r}")
    return found


def _finite_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _finite_int(text: str) -> int:
    """The fast parser makes a float of a whole number that is long, so that it refuses the same ones."""
    value = int(text)
    if len(text) > _SAFE_DIGITS:
        try:
            float(value)
        except OverflowError:
            _refuse_number(text)
    return value


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"number {clip(text)} overflows a 64-bit float")


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
