"""One element of a tensor, as a declaration says it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from maas.dtypes import float_info, is_float

Scalar = bool | int | float | str
"""An element as JSON has it; of `bytes`, a text."""


def read_element(text: str) -> Scalar | None:
    """What stands in `text` as JSON; None where it is no single element."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Scalar) else None


def element_of(dtype: np.dtype[Any], value: Scalar) -> Scalar | bytes | None:
    """`value` as an element of a tensor; None where it can be none."""
    kind = dtype.kind
    if kind == "O" and isinstance(value, str):
        return value.encode()
    if kind == "b" and value in (0, 1):
        return bool(value)
    if isinstance(value, str | bool):
        return None
    if kind in "iu":
        info = np.iinfo(dtype)
        return int(value) if info.min <= value <= info.max and value == int(value) else None
    if is_float(dtype):
        return float(value) if abs(value) <= float(float_info(dtype).max) else None
    return None
