"""Interleaved rounds, and what is kept of them: medians with their spread, in a table that `results.py` can put together."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import describe_machine

Measured = Mapping[str, float]
"""What one contestant's turn gave, by column."""


@dataclass(slots=True)
class Table:
    """One benchmark's outcome. A cell is a median and, of several rounds, its least and most."""

    name: str
    command: str
    machine: str
    taken: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def render(self) -> str:
        """In Markdown, with the columns aligned for those who read it as text."""
        cells = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip()


def arguments(text: str | None, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"interleaved rounds (default: {rounds})")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"of load in a turn (default: {seconds:g})"
    )
    parser.add_argument("--json", type=Path, help="also write the table to this file, for benchmarks.results")
    return parser


def new_table(name: str, columns: Sequence[str]) -> Table:
    words = [Path(word).name if word.endswith(".json") else word for word in sys.argv[1:]]
    command = " ".join(["python -m", f"benchmarks.{name}", *words])
    taken = datetime.now(UTC).strftime("%Y-%m-%d")
    return Table(name, command, describe_machine(), taken, list(columns))


def finish(table: Table, file: Path | None) -> None:
    print(f"{table.machine}\n\n{table.render()}")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n")


def interleave(contestants: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Each in turn, again and again, so that all meet the same machine; every other round backwards."""
    measured: dict[str, list[Measured]] = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants.items())
        for name, measure in order if number % 2 == 0 else reversed(order):
            measured[name].append(measure())
            print(f"round {number + 1} of {rounds}, {name}: {_brief(measured[name][-1])}", file=sys.stderr)
    return measured


def cell(values: Sequence[float], digits: int = 0) -> str:
    """`median [least – most]`."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} [{least} – {most}]"


def ratio_cell(rounds: Sequence[Measured], base: Sequence[Measured], column: str) -> str:
    """How many times the baseline of the same round."""
    return cell([one[column] / other[column] for one, other in zip(rounds, base, strict=True)], 2)


def _brief(measured: Measured) -> str:
    return ", ".join(f"{name} {value:,.3g}" for name, value in measured.items())
