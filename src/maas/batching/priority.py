"""Priorities: bounded classes that share the instances by weight, so that the lowest is slow and never starved."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """In the order in which ties are decided."""

    INTERACTIVE = 0
    STANDARD = 1
    BULK = 2

    __hash__ = (
        int.__hash__
    )  # that of `Enum` is a Python function, and every request is looked up by its class


# While all classes have requests waiting, each gets rows in this proportion.
WEIGHTS: dict[Priority, int] = {Priority.INTERACTIVE: 16, Priority.STANDARD: 4, Priority.BULK: 1}
