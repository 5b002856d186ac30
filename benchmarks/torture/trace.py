"""A trace: what became of every request of a load, and what follows from that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOST = 0  # as a status: the connection broke, could not be had, or nothing came in time

# What is known of a request, and how it is kept.
ARRAYS: Mapping[str, type[np.generic]] = {
    "scheduled": np.float64,
    "done": np.float64,
    "status": np.int16,
    "code": np.int32,
    "version": np.int32,
    "connection": np.int32,
    "retry_after": np.bool_,
    "is_own": np.bool_,
}


def percentile(values: NDArray[np.float64], percent: float) -> float:
    """The smallest value that at least `percent` of 100 of the values do not exceed; NaN of none."""
    if not len(values):
        return float("nan")
    return float(np.percentile(values, percent, method="inverted_cdf"))


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Arrays with an element for each request, in the order in which they ended. Times are monotonic seconds of the
    machine, the same for every process: `scheduled` when it was due, `done` when its answer was whole.

    `codes` and `versions` are of the words in `words`; `number` is the request's own, which its answer must carry, and
    `is_own` whether it did. `connection` tells connections apart.
    """

    started: float
    seconds: float
    load_average: float
    words: tuple[str, ...]
    scheduled: NDArray[np.float64]
    done: NDArray[np.float64]
    status: NDArray[np.int16]
    code: NDArray[np.int32]
    version: NDArray[np.int32]
    connection: NDArray[np.int32]
    retry_after: NDArray[np.bool_]
    is_own: NDArray[np.bool_]

    @property
    def latency(self) -> NDArray[np.float64]:
        """From when a request was due, not from when it was sent."""
        return self.done - self.scheduled

    def where(self, mask: NDArray[np.bool_]) -> Trace:
        """The requests that `mask` picks."""
        picked = {name: getattr(self, name)[mask] for name in ARRAYS}
        return Trace(self.started, self.seconds, self.load_average, self.words, **picked)

    def between(self, start: float, stop: float) -> Trace:
        """The requests due in [start, stop), in seconds from the load's start."""
        due = self.scheduled - self.started
        return self.where((start <= due) & (due < stop))

    @property
    def answered(self) -> Trace:
        return self.where(self.status == 200)

    @property
    def refused(self) -> Trace:
        return self.where(self.status == 503)

    @property
    def lost(self) -> int:
        return int((self.status == LOST).sum())

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200, or with another's answer."""
        return int(((self.status != 200) | ~self.is_own).sum())

    def percentile(self, percent: float) -> float:
        return percentile(self.latency, percent)

    def good(self, deadline: float) -> int:
        """Answers of 200 that came within `deadline` of when they were due."""
        return int(((self.status == 200) & (self.latency <= deadline)).sum())

    def outcomes(self) -> dict[str, int]:
        """How many by status and code, the most frequent first."""
        counts = Counter(zip(self.status.tolist(), self.code.tolist(), strict=True))
        return {self._outcome(*key): count for key, count in counts.most_common()}

    def summary(self) -> str:
        """The most frequent outcomes, in one line."""
        return ", ".join(f"{count} × {outcome}" for outcome, count in list(self.outcomes().items())[:4])

    def mixed_connections(self) -> int:
        """Connections on which a version answered that had been followed by another: those cuts were not clean."""
        return sum(
            not _is_clean(self.version[self.connection == each]) for each in np.unique(self.connection)
        )

    def save(self, path: Path) -> None:
        facts = json.dumps([self.started, self.seconds, self.load_average, self.words])
        np.savez(path, facts=np.array(facts), **{name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def read(cls, path: Path) -> Trace:
        with np.load(path) as arrays:
            started, seconds, load_average, words = json.loads(str(arrays["facts"]))
            content: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
            return cls(started, seconds, load_average, tuple(words), **content)

    def _outcome(self, status: int, code: int) -> str:
        name = "lost" if status == LOST else str(status)
        return f"{name} {self.words[code]}".strip()


def _is_clean(versions: NDArray[np.int32]) -> bool:
    runs = versions[np.insert(np.diff(versions) != 0, 0, True)]
    return len(set(runs.tolist())) == len(runs)
