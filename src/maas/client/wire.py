"""JSON as the native dialect speaks it, both ways: NumPy goes in, numbers that are not finite stay visible.

JSON has no NaN and no infinities, and `orjson` would write them as `null`. The server takes and gives them as bare
literals for the models that allow them, so what holds any goes through the standard library's `json`, which writes
and reads just that. What a model allows is for the server to say; here only what no JSON can carry is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import orjson

from maas.dtypes import is_bfloat16
from maas.errors import InvalidRequest


def encode_inputs(inputs: Mapping[str, object]) -> bytes:
    """The body of a predict request: an object of tensor name → nested list.

    Values may be arrays (or anything with `__array__`), nested lists, numbers, booleans, `str`, or UTF-8 `bytes`.
    Raises `InvalidRequest`, naming the input, for what JSON cannot carry.
    """
    if not isinstance(inputs, Mapping):
        raise InvalidRequest(f"inputs are a mapping of name to values; {type(inputs).__name__} came")
    return b"{" + b",".join(_member(name, value) for name, value in inputs.items()) + b"}"


def _member(name: str, value: object) -> bytes:
    if not isinstance(name, str):
        raise InvalidRequest(f"input names are strings; {name!r} is not")
    try:
        return encode(name) + b":" + encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"input {name!r} cannot be sent as JSON: {error}") from error


def encode(value: object) -> bytes:
    """`value` as JSON; raises TypeError or ValueError for what JSON cannot carry."""
    try:
        body = orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except (
        TypeError
    ):  # an integer over 64 bits, half a surrogate pair; or not for JSON at all, which is said below
        body = None
    # A `null` is a None, part of a string, or a number that is not finite: rare enough to write again.
    if body is None or b"null" in body:
        body = json.dumps(value, default=_plain, separators=(",", ":")).encode()
    return body


def decode(body: bytes) -> object:
    """What `body` says; raises ValueError if it is not JSON, bare NaN and infinities allowed."""
    try:
        return orjson.loads(body)
    except ValueError:
        try:
            return json.loads(body)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error


def _plain(value: object) -> object:
    """What the encoder does not know, in terms that it does."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        if is_bfloat16(value.dtype):
            return value.astype(np.float32)
        # A copy in order is written by the fast path; what it still refuses (text, objects) becomes lists.
        return value.tolist() if value.flags.c_contiguous else np.ascontiguousarray(value)
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "__array__"):
        return np.asarray(value)
    raise TypeError(f"{type(value).__name__} is no tensor")
