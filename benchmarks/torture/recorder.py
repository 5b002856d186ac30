"""The recorder: one row of a trace for each request that has ended."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from benchmarks.torture.trace import ARRAYS, LOST, Trace
from benchmarks.torture.wire import Answer

_FIRST_NUMBER = re.compile(rb"[0-9.]+")


@dataclass(frozen=True, slots=True)
class Pending:
    """A request on its way: when it was due, its number, its bytes."""

    due: float
    number: int
    request: bytes


@dataclass(slots=True)
class Recorder:
    """`doubles`: an answer of 200 is its request's own only where it holds twice its number."""

    doubles: bool
    rows: list[tuple[float, float, int, int, int, int, bool, bool]] = field(default_factory=list)
    words: dict[str, int] = field(default_factory=lambda: {"": 0})

    def record(self, pending: Pending, connection: int, answer: Answer | None, code: str = "") -> None:
        done = time.monotonic()
        if answer is None:
            row = (pending.due, done, LOST, self._word(code), 0, connection, False, True)
        else:
            version = _version_of(answer) if answer.status == 200 else ""
            has_retry_after = answer.status == 503 and answer.header("retry-after") is not None
            row = (
                pending.due,
                done,
                answer.status,
                self._word(answer.code),
                self._word(version),
                connection,
                has_retry_after,
                self._is_own(pending, answer),
            )
        self.rows.append(row)

    def trace(self, started: float, seconds: float) -> Trace:
        columns = list(zip(*self.rows, strict=True)) or [()] * len(ARRAYS)
        arrays: dict[str, Any] = {
            name: np.array(column, kind) for (name, kind), column in zip(ARRAYS.items(), columns, strict=True)
        }
        return Trace(started, seconds, os.getloadavg()[0], tuple(self.words), **arrays)

    def _word(self, word: str) -> int:
        return self.words.setdefault(word, len(self.words))

    def _is_own(self, pending: Pending, answer: Answer) -> bool:
        return (
            not self.doubles
            or answer.status != 200
            or b"%d" % (2 * own_number(pending.number)) in answer.body
        )


def _version_of(answer: Answer) -> str:
    """The digest that the answer says, and the first number of its body, which a version of `Stamp` makes its own."""
    digest = answer.header("x-model-digest")
    stamp = _FIRST_NUMBER.search(answer.body)
    return f"{digest} {stamp[0].decode() if stamp else ''}" if digest else ""


def own_number(index: int) -> int:
    """The number of the request with this index: seven digits, which a float32 holds, even doubled."""
    return 1_000_000 + index % 1_000_000
