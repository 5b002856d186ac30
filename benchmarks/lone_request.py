"""What a lone request pays over the bare model call: one connection, one request at a time.

    python benchmarks/lone_request.py [--rounds 10] [--calls 500]

Rounds of the bare call and of the served one alternate, so that both meet the same machine. Closed loop, one sample of
16 floats to a three-layer perceptron; medians over all calls of a round, then over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import Connection, describe_machine, publish_mlp, serving

from maas import runtimes
from maas.models.repository import Repository
from maas.runtimes.contract import Artifact, Placement
from maas.types import Tensors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=500)
    options = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        publish_mlp(Path(folder))
        bare = bare_call(Path(folder))
        with serving(Path(folder)) as port:
            connection = Connection(port, "/predict/mlp", {"x": [0.5] * 16})
            measure(bare, options.calls), measure(connection.call, options.calls)  # warm up
            rounds = [
                (measure(bare, options.calls), measure(connection.call, options.calls))
                for _ in range(options.rounds)
            ]
            connection.close()
    report("bare model call", [bare for bare, _ in rounds])
    report("HTTP to HTTP", [served for _, served in rounds])
    report("added", [served - bare for bare, served in rounds])


def bare_call(repository: Path) -> Callable[[], float]:
    """The same version's runner, called in this process with one row."""
    torch.set_num_threads(1)
    stored = Repository(repository).read("mlp")
    manifest = stored.manifest
    artifact = Artifact(stored.directory, manifest.signature, manifest.runtime.options)
    runner = runtimes.runtime(manifest.runtime.name).load(artifact, Placement())
    inputs: Tensors = {"x": np.full((1, 16), 0.5, np.float32)}

    def call() -> float:
        started = time.perf_counter()
        runner.run(inputs)
        return time.perf_counter() - started

    return call


def measure(call: Callable[[], float], calls: int) -> float:
    return statistics.median(call() for _ in range(calls))


def report(name: str, medians: list[float]) -> None:
    low, middle, high = (
        f"{value * 1e3:.3f}" for value in (min(medians), statistics.median(medians), max(medians))
    )
    print(f"{name:16} median {middle} ms   [{low} – {high} over {len(medians)} rounds]")


if __name__ == "__main__":
    main()
