"""What a lone request pays over the bare model call: one connection, one request at a time.

    python -m benchmarks.lone_request [--rounds 10] [--calls 500]

Rounds of the bare call and of the served one alternate, so that both meet the same machine. Closed loop, one sample of
16 floats to a three-layer perceptron; medians over all calls of a round, then over the rounds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.harness import Connection, load_runner, publish_mlp, serving
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table

from maas.types import Tensors


def main() -> None:
    parser = arguments(__doc__, rounds=10, seconds=0.0)
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    table = new_table("lone_request", ["", "median ms"])
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        publish_mlp(repository)
        bare = bare_call(repository)
        with serving(repository) as server:
            connection = Connection(server.port, "/predict/mlp", {"x": [0.5] * 16})
            turns = {"bare model call": bare, "HTTP to HTTP": connection.call}
            for call in turns.values():  # warm up
                measure(call, options.calls)
            rounds = interleave(
                {name: partial(measure, call, options.calls) for name, call in turns.items()}, options.rounds
            )
            connection.close()
    for name, measured in rounds.items():
        table.rows.append([name, cell([each["ms"] for each in measured], 3)])
    pairs = zip(rounds["HTTP to HTTP"], rounds["bare model call"], strict=True)
    table.rows.append(["added", cell([served["ms"] - alone["ms"] for served, alone in pairs], 3)])
    table.notes.append(f"1 connection, {options.rounds} rounds of {options.calls} calls each")
    finish(table, options.json)


def bare_call(repository: Path) -> Callable[[], float]:
    """The same version's runner, called in this process with one row; seconds that it took."""
    runner = load_runner(repository, "mlp")
    inputs: Tensors = {"x": np.full((1, 16), 0.5, np.float32)}

    def call() -> float:
        started = time.perf_counter()
        runner.run(inputs)
        return time.perf_counter() - started

    return call


def measure(call: Callable[[], float], calls: int) -> Measured:
    return {"ms": statistics.median(call() for _ in range(calls)) * 1e3}


if __name__ == "__main__":
    main()
