"""Names that no model may have and what happens on the disk when one is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BAD_NAMES = [
    "", ".", "..", "../up", "a/b", "/etc/passwd", "a\0b", "a\\b", "%2e%2e%2f", "..%2f", ".hidden", "-flag", "_x",
    "a b", "a\n", "naïve", "ａ", "модель", "a" * 65, "x" * 10_000, "CON:", "a//b", "~", "\u202eabc",
]  # fmt: skip

_WATCHED = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}
_touched: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is not None and event in _WATCHED:
        _touched.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, Path)) else "?")


sys.addaudithook(_watch)  # for good: a hook cannot be removed, so it is switched


@contextmanager
def touched() -> Iterator[list[str]]:
    """Every path that is opened, listed or changed meanwhile."""
    global _touched
    _touched = []
    try:
        yield _touched
    finally:
        _touched = None
