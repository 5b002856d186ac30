"""The ledger: a file in which the suite's models write down each run, so that executions are counted where they happen."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TORTURE_LEDGER"
"""Names the file in the environment of the server's processes; without it nothing is written."""


@dataclass(frozen=True, slots=True)
class Run:
    """One batch: the process that ran it, when (monotonic seconds), and the numbers of its requests."""

    pid: int
    at: float
    numbers: tuple[int, ...]


def write_run(numbers: Sequence[float]) -> None:
    """One line, by one call, so that lines of several processes do not mix. Zeros alone are not worth one."""
    file = os.environ.get(VARIABLE)
    if file is None or not any(numbers):
        return
    line = f"{os.getpid()} {time.monotonic()} {' '.join(str(int(number)) for number in numbers)}\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Ledger:
    file: Path

    def runs(self, least: int = 0) -> list[Run]:
        """The runs that hold a request whose number is at least `least`, in their order."""
        if not self.file.exists():
            return []
        whole, _, _ = self.file.read_text().rpartition("\n")
        runs = [_parse(line) for line in whole.splitlines()]
        return [run for run in runs if any(number >= least for number in run.numbers)]

    def executed(self) -> set[int]:
        """The numbers of all requests that were run."""
        return {number for run in self.runs() for number in run.numbers}

    def worker(self) -> int:
        """The process that ran the last batch."""
        return self.runs()[-1].pid


def _parse(line: str) -> Run:
    pid, at, *numbers = line.split()
    return Run(int(pid), float(at), tuple(map(int, numbers)))
