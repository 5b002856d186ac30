"""The table, the same for people and for machines."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.torture.verdict import Verdict

_COLUMNS = ("scenario", "measured", "must be", "verdict", "rounds", "load")


def describe_machine(server: str) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    release = platform.release().split("-")[0]
    return f"{os.cpu_count()} cores ({model}), Linux {release}; {server}; suite at commit {commit or '?'}"


def row(verdict: Verdict) -> tuple[str, ...]:
    if verdict.not_applicable:
        return verdict.scenario, verdict.not_applicable, "", "not applicable", "", ""
    best = verdict.best
    measured = best.error or "; ".join(f"{check.what} {check.value}" for check in best.checks)
    marks = "; ".join(check.mark for check in best.checks if check.mark)
    word = "passed" if best.is_passed else "tolerated" if verdict.is_passed else "FAILED"
    return verdict.scenario, measured, marks, word, str(len(verdict.rounds)), f"{best.load_average:.1f}"


def table(verdicts: Sequence[Verdict]) -> str:
    """In Markdown, with columns that line up."""
    rows = [_COLUMNS, *map(row, verdicts)]
    widths = [max(len(each[column]) for each in rows) for column in range(len(_COLUMNS))]
    lines = [_line(each, widths) for each in rows]
    return "\n".join([lines[0], "|".join(["", *("-" * (width + 2) for width in widths), ""]), *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def as_json(machine: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    scenarios = [{**asdict(each), "passed": each.is_passed} for each in verdicts]
    return {"machine": machine, "scenarios": scenarios}
