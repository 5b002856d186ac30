"""From exec to the first health answer and to the first prediction, and what the processes hold then.

    python -m benchmarks.startup

`maas serve` of a perceptron of three layers, from a cold process each time (files are in the page cache). Beside it, in the same
round, a bare uvicorn. The gateway imports no engine; the model process is forked from one that has.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import events, free_port, is_answered, publish_mlp, running, started, wait_for
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table
from benchmarks.torture.processes import resident_bytes

_PATIENCE = 60.0
_EVERY = 0.002  # seconds between questions
_COLUMNS = {"health s": 3, "prediction s": 3, "gateway MB": 1, "model MB": 1}


def main() -> None:
    options = arguments(__doc__, rounds=5, seconds=0.0).parse_args()
    table = new_table("startup", ["", *_COLUMNS])
    with tempfile.TemporaryDirectory() as folder:
        publish_mlp(Path(folder) / "models")
        turns = {"maas": partial(start_maas, Path(folder)), "bare uvicorn": partial(start_bare, Path(folder))}
        rounds = interleave(turns, options.rounds)
    for name, measured in rounds.items():
        cells = [
            cell([each[column] for each in measured], digits) if column in measured[0] else "–"
            for column, digits in _COLUMNS.items()
        ]
        table.rows.append([name, *cells])
    table.notes.append(
        f"{options.rounds} rounds; resident memory after the first prediction, shared pages included"
    )
    finish(table, options.json)


def start_maas(folder: Path) -> Measured:
    port = free_port()
    begun = time.perf_counter()
    with started(folder / "models", server={"port": port}) as (process, log):
        healthy = _until_answered(port, "/v2/health/live", None, begun)
        answered = _until_answered(port, "/predict/mlp", {"x": [0.5] * 16}, begun)
        (worker,) = (event["pid"] for event in events(log) if event["event"] == "instance_ready")
        return {
            "health s": healthy,
            "prediction s": answered,
            "gateway MB": resident_bytes(process.pid) / 1e6,
            "model MB": resident_bytes(worker) / 1e6,
        }


def start_bare(folder: Path) -> Measured:
    port = free_port()
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.peers.bare", str(port)]
    with running(command, folder / "bare.log") as process:
        healthy = _until_answered(port, "/", {"x": [0.5]}, begun)
        return {"health s": healthy, "gateway MB": resident_bytes(process.pid) / 1e6}


def _until_answered(port: int, path: str, body: object, begun: float) -> float:
    wait_for(lambda: is_answered(port, path, body), _PATIENCE, _EVERY)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
