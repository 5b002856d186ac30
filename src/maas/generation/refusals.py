"""Refusals that name the field, its value and its limit. Values come from outside: they may be of any type and size."""

from __future__ import annotations

from typing import NoReturn, TypeGuard

from maas.errors import InvalidRequest
from maas.types import clip

_LARGE_BITS = 128  # Python refuses to write integers of some ten thousand bits


def refuse(field: str, message: str, *, code: str | None = None) -> NoReturn:
    """Raise `InvalidRequest` with `field` as its `param`."""
    error = InvalidRequest(message, code=code)
    error.param = field
    raise error


def check_number(field: str, value: object, low: float, high: float) -> float:
    """`value` as a float, if it is a number from `low` to `high`."""
    # NaN is in no range, and a comparison converts no large integer.
    if (is_integer(value) or isinstance(value, float)) and low <= value <= high:
        return float(value)
    refuse(field, f"{field} is {shown(value)}; it must be a number from {low:g} to {high:g}")


def check_integer(field: str, value: object, low: int, high: int) -> int:
    """`value`, if it is an integer from `low` to `high`."""
    if is_integer(value) and low <= value <= high:
        return value
    refuse(field, f"{field} is {shown(value)}; it must be an integer from {low} to {high}")


def is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object) -> str:
    """`value` as it may stand in a message."""
    if isinstance(value, int) and value.bit_length() > _LARGE_BITS:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float | str):
        return clip(repr(value))
    return f"of type {type(value).__name__}"
