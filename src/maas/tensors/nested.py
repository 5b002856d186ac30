"""Nested JSON lists ↔ arrays, strictly: what is ragged, mixed or out of range is refused, never guessed.

Decoding walks the lists level by level. Every level is checked whole (all lists, all of one length), so that a
ragged body is told from a rectangular one, and the innermost elements must all be of the declared kind: `true`
is no number here and `1.0` no integer. The loops run inside `map`, `set` and `chain`, at C speed.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from maas.dtypes import BFLOAT16, float_info, is_float
from maas.errors import InvalidRequest, ModelFailed
from maas.types import MAX_RANK, Array, TensorSpec, clip

_MAX_STRINGS = 65_536  # in a tensor: each is an object, which costs what a row of numbers does

# By dtype, how `struct` writes its elements: several times as fast as NumPy reads a list, and in range or not at all.
# A bfloat16 is written as the float32 of which it is the upper half.
_TYPECODES = {
    BFLOAT16: "f",
    "float16": "e", "float32": "f", "float64": "d",
    "int8": "b", "int16": "h", "int32": "i", "int64": "q",
    "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
}  # fmt: skip

_ELEMENT_TYPES: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "V": frozenset({int, float}),
    "O": frozenset({str, bytes}),
}


def is_plain(text: bytes) -> bool:
    """Whether a JSON text surely holds no booleans, no NaN and no infinities, so that what is no string is a finite number."""
    # A byte is found, or not, many times faster than a word.
    has_words = (b"u" in text and b"true" in text) or (b"l" in text and b"false" in text)
    return not (has_words or (b"N" in text and b"NaN" in text) or (b"I" in text and b"Infinity" in text))


def decode(
    value: object, spec: TensorSpec, *, allow_non_finite: bool = False, is_plain: bool = False
) -> Array:
    """Array of `spec`'s dtype with the elements and the rank of `value`, a parsed JSON value.

    NaN and infinities are refused unless they are allowed. Of a value whose text `is_plain` the numbers are not looked at one
    by one. Bytes may stand where a text may. The rank and the dimensions are whatever the lists have; `check_inputs` compares them with the declaration. The
    array may be read only.
    Raises `InvalidRequest` for ragged lists, elements of another kind, and numbers that the dtype cannot hold.
    """
    if is_plain and type(value) is list and value and type(value[0]) is not list:
        array = _from_numbers(value, spec)  # one level, as small models take it
        if array is not None:
            return array
    level: list[Any] = [value]
    shape: list[int] = []
    while level and type(level[0]) is list:
        if len(level) == 1 and len(shape) < MAX_RANK:
            (level,) = level
            shape.append(len(level))
        else:
            shape.append(_common_length(level, spec, axis=len(shape)))
            level = list(chain.from_iterable(level))
    array = _from_numbers(level, spec) if is_plain else None
    if array is None:
        array = _from_flat(level, spec, shape)
        if is_float(array.dtype):
            _check_range(array, level, spec, shape, allow_non_finite)
    return array if len(shape) == 1 else array.reshape(shape)


def encode(array: Array, name: str) -> Any:
    """What `orjson` (with `OPT_SERIALIZE_NUMPY`) writes for an output: a contiguous array, a scalar, or nested lists
    of text where it holds bytes.

    Raises `ModelFailed` where bytes are no valid UTF-8, which JSON cannot carry.
    """
    kind = array.dtype.kind
    if kind != "O":
        if kind == "V":  # bfloat16: `orjson` does not know it, and float32 holds its numbers
            array = array.astype(np.float32)
        return np.ascontiguousarray(array) if array.ndim else array[()]
    try:
        return _decode_strings(array.tolist())
    except UnicodeDecodeError as error:
        raise ModelFailed(
            f"output {name!r} holds bytes that are no valid UTF-8, so JSON cannot carry them"
        ) from error


def _decode_strings(value: Any) -> Any:
    return [_decode_strings(part) for part in value] if isinstance(value, list) else value.decode()


def _common_length(level: list[Any], spec: TensorSpec, axis: int) -> int:
    if axis == MAX_RANK:
        raise InvalidRequest(f"input {spec.name!r} is nested over {MAX_RANK} levels deep")
    if set(map(type, level)) != {list}:
        raise InvalidRequest(
            f"input {spec.name!r} is ragged: lists and single values are mixed at axis {axis}"
        )
    lengths = set(map(len, level))
    if len(lengths) > 1:
        first, second = sorted(lengths)[:2]
        raise InvalidRequest(
            f"input {spec.name!r} is ragged: lists of {first} and of {second} elements at axis {axis}"
        )
    return lengths.pop()


def _from_numbers(elements: list[Any], spec: TensorSpec) -> Array | None:
    """Elements that are numbers or strings and no others; None where they are not all numbers that the dtype can hold."""
    code = _TYPECODES.get(spec.dtype)
    if code is None:
        return None
    try:
        packed = _packing(code, len(elements)).pack(*elements)
    except (struct.error, OverflowError):
        return None
    return _narrowed(packed, spec) if spec.dtype == BFLOAT16 else np.frombuffer(packed, spec.numpy_dtype)


def _narrowed(packed: bytes, spec: TensorSpec) -> Array | None:
    """float32 as bfloat16; None where one of them overflows."""
    with np.errstate(over="ignore"):
        array = np.frombuffer(packed, np.float32).astype(spec.numpy_dtype)
    return array if np.isfinite(array).all() else None


@lru_cache(1024)
def _packing(code: str, count: int) -> struct.Struct:
    return struct.Struct(
        f"={count}{code}"
    )  # the other order of bytes, `@`, makes an infinity of what overflows


def _from_flat(elements: list[Any], spec: TensorSpec, shape: list[int]) -> Array:
    dtype = spec.numpy_dtype
    allowed = _ELEMENT_TYPES[dtype.kind]
    if not allowed.issuperset(map(type, elements)):
        index, wrong = next((i, v) for i, v in enumerate(elements) if type(v) not in allowed)
        raise InvalidRequest(f"{_locate(spec, shape, index)} is {_describe(wrong)}; expected {spec.dtype}")
    if dtype.kind == "O":
        return _encode_strings(elements, spec, shape)
    try:
        with np.errstate(over="ignore"):
            return np.array(elements, np.float32 if spec.dtype == BFLOAT16 else dtype).astype(
                dtype, copy=False
            )
    except OverflowError:
        index, wrong = next((i, v) for i, v in enumerate(elements) if not _fits(v, dtype))
        raise InvalidRequest(
            f"{_locate(spec, shape, index)} is {wrong}, which overflows {spec.dtype}"
        ) from None


def _check_range(
    array: Array, elements: list[Any], spec: TensorSpec, shape: list[int], allow_non_finite: bool
) -> None:
    """Refuse an infinity that came of a finite number, and NaN and infinities themselves unless they are allowed."""
    for index in np.flatnonzero(~np.isfinite(array)):
        if math.isfinite(elements[index]):
            raise InvalidRequest(
                f"{_locate(spec, shape, index)} is {elements[index]}, which overflows {spec.dtype}"
            )
        if not allow_non_finite:
            raise InvalidRequest(
                f"{_locate(spec, shape, index)} is {elements[index]}; the model takes finite numbers"
            )


def check_string_count(spec: TensorSpec, count: int) -> None:
    """Raise `InvalidRequest` where an input has more strings than a request may have."""
    if count > _MAX_STRINGS:
        raise InvalidRequest(f"input {spec.name!r} has {count} strings; a request may have {_MAX_STRINGS}")


def _encode_strings(elements: list[str | bytes], spec: TensorSpec, shape: list[int]) -> Array:
    check_string_count(spec, len(elements))
    array = np.empty(len(elements), dtype=object)
    for index, text in enumerate(elements):
        try:
            array[index] = text if isinstance(text, bytes) else text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{_locate(spec, shape, index)} holds a lone surrogate") from None
    return array


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    if is_float(dtype):
        # An int is compared as it is: `isfinite` would make a float of it, which may overflow.
        return value != value or abs(value) == math.inf or abs(value) <= float(float_info(dtype).max)
    info = np.iinfo(dtype)
    return int(info.min) <= value <= int(info.max)


def _locate(spec: TensorSpec, shape: list[int], index: int | np.intp) -> str:
    place = "".join(f"[{i}]" for i in np.unravel_index(index, shape)) if shape else ""
    return f"input {spec.name!r} at {place}" if place else f"input {spec.name!r}"


def _describe(value: object) -> str:
    words = {
        str: "string",
        bool: "boolean",
        type(None): "null",
        dict: "object",
        list: "list",
        float: "number",
        int: "number",
    }
    shown = clip(repr(value), 40) if isinstance(value, (str, int, float)) else ""
    return f"{words.get(type(value), type(value).__name__)} {shown}".rstrip()
