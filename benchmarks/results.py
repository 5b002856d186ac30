"""Puts the tables of all benchmarks together in RESULTS.md: `python -m benchmarks.results FOLDER`, of the JSON files in it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.rounds import Table

RESULTS = Path(__file__).parent / "RESULTS.md"
ORDER = (
    "gateway",
    "mlp",
    "cnn",
    "encoder",
    "large_bodies",
    "lone_request",
    "startup",
    "cost_per_request",
    "grpc",
    "generation",
)
_HEAD = """# Results

What the scripts of this folder measured last. `make bench` runs the quick ones (`make bench BENCHMARKS='cnn encoder'` the others) and
renews this page from what they write to `build/bench`; `make bench-peers` also puts mosec and LitServe through the same requests
(one worker of one thread, batches of up to 32, where nothing else is said). Cells are the median of interleaved rounds, and the least and the most of them. Compare within a table only:
everything in it met the same machine in the same minutes.
"""
_MISSING = "Not measured yet: `python -m benchmarks.{name} --json build/bench/{name}.json`."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/bench"))
    folder = parser.parse_args().folder
    RESULTS.write_text(render({name: read(folder / f"{name}.json") for name in ORDER}))


def read(file: Path) -> Table | None:
    return Table(**json.loads(file.read_text())) if file.exists() else None


def render(tables: dict[str, Table | None]) -> str:
    parts = [_HEAD]
    for name, table in tables.items():
        parts.append(f"\n## {name}\n\n{_MISSING.format(name=name) if table is None else section(table)}\n")
    return "".join(parts)


def section(table: Table) -> str:
    return f"`{table.command}`, {table.taken}: {table.machine}.\n\n{table.render()}"


if __name__ == "__main__":
    main()
