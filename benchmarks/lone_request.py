"""What a lone request pays over the bare model call: one connection, one request at a time.

    python -m benchmarks.lone_request [--rounds 10] [--calls 500]

Rounds of the bare call, of the served one and of a naive FastAPI endpoint with the model inside take turns, so that all meet the
same machine. Closed loop, one sample of 16 floats to a three-layer perceptron; medians over all calls of a round, then over the
rounds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.harness import Connection, load_runner, publish_mlp, serving
from benchmarks.peers.service import PATHS, READY, naive_fastapi
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table

from maas.types import Tensors

_NAIVE = "naive FastAPI"


def main() -> None:
    parser = arguments(__doc__, rounds=10, seconds=0.0)
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    table = new_table("lone_request", ["", "median ms"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = folder / "models"
        publish_mlp(repository)
        turns = {"bare model call": bare_call(repository)}
        for name, server, path in (
            ("HTTP to HTTP", stack.enter_context(serving(repository)), "/predict/mlp"),
            (_NAIVE, stack.enter_context(naive_fastapi(folder)), PATHS[_NAIVE]),
        ):
            connection = stack.enter_context(closing(Connection(server.port, path, READY["mlp"])))
            turns[name] = connection.call
        for call in turns.values():  # warm up
            measure(call, options.calls)
        rounds = interleave(
            {name: partial(measure, call, options.calls) for name, call in turns.items()}, options.rounds
        )
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
