"""What a nested value spells, element by element: plain Python, without NumPy's conversions."""

from __future__ import annotations

import math
import struct
from typing import Any

from maas.dtypes import DTYPES
from maas.types import MAX_RANK

INTEGERS = [name for name, dtype in DTYPES.items() if dtype.kind in "iu"]
FLOATS = [name for name in DTYPES if "float" in name]


class NoTensor(Exception):
    """What the reference says of a value that must be refused."""


def reference(value: Any, dtype: str, allow_non_finite: bool) -> tuple[list[int], list[Any]]:
    """The shape and the flat elements that `value` spells in `dtype`."""
    if not isinstance(value, list):
        return [], [element(value, dtype, allow_non_finite)]
    parts = [reference(part, dtype, allow_non_finite) for part in value]
    shapes = [shape for shape, _ in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise NoTensor
    shape = [len(value), *(shapes[0] if shapes else [])]
    if len(shape) > MAX_RANK:
        raise NoTensor
    return shape, [part for _, flat in parts for part in flat]


def element(value: Any, dtype: str, allow_non_finite: bool) -> Any:
    if dtype == "bytes":
        if not isinstance(value, str):
            raise NoTensor
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise NoTensor from None
    if dtype == "bool":
        if not isinstance(value, bool):
            raise NoTensor
        return value
    if isinstance(value, bool) or not isinstance(value, int if dtype in INTEGERS else (int, float)):
        raise NoTensor
    if dtype in INTEGERS:
        bits = int(dtype.removeprefix("u").removeprefix("int"))
        least, most = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if not least <= value <= most:
            raise NoTensor
        return value
    if isinstance(value, float) and not math.isfinite(value):
        if not allow_non_finite:
            raise NoTensor
        return value
    code = {"float16": "<e", "bfloat16": "<f", "float32": "<f", "float64": "<d"}[dtype]
    try:
        written = struct.pack(code, value)
    except (OverflowError, struct.error):
        raise NoTensor from None
    return struct.unpack(code, upper_half(written) if dtype == "bfloat16" else written)[0]


def upper_half(single: bytes) -> bytes:
    """The nearest float32 whose lower half is zero, which is a bfloat16; of two the one that ends in an even bit."""
    bits = int.from_bytes(single, "little")
    upper, lower = bits >> 16, bits & 0xFFFF
    upper += lower > 0x8000 or (lower == 0x8000 and upper & 1)
    if upper & 0x7F80 == 0x7F80:
        raise NoTensor
    return (upper << 16).to_bytes(4, "little")
