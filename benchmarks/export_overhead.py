"""What a loaded `torch.export` program costs per call over the module it came from, for the recipes' models.

    python -m benchmarks.export_overhead [--repository models] [--rounds 10] [--calls 300]

Both are called in this process with one thread and one row; rounds of the two alternate. Medians of medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from benchmarks.harness import describe_machine

from maas import runtimes
from maas.errors import BadArtifact
from maas.models.repository import Repository, StoredVersion
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.golden import load_golden, rows_of
from maas.runtimes.torch.export import write_exported
from maas.runtimes.torch.module import load_module
from maas.types import Tensors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=Path, default=Path("models"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    print(f"{'model':20}{'module µs':>12}{'exported µs':>13}{'added µs':>10}")
    repository = Repository(options.repository)
    for name in repository.models():
        print(f"{name:20}{compare(repository.read(name), options.rounds, options.calls)}")


def compare(stored: StoredVersion, rounds: int, calls: int) -> str:
    manifest = stored.manifest
    module = Artifact(stored.directory, manifest.signature, manifest.runtime.options)
    samples = load_golden(stored.directory, manifest.signature)
    row = rows_of(manifest.signature, samples[0])[0].inputs
    with tempfile.TemporaryDirectory() as folder:
        try:
            options = write_exported(
                Path(folder),
                load_module(module, torch.device("cpu")),
                manifest.signature,
                [samples[0].inputs],
            )
        except BadArtifact as error:
            return f"   does not export: {error.message.splitlines()[0][:60]}"
        exported = Artifact(Path(folder), manifest.signature, options)
        runners = [runtimes.runtime("torch").load(artifact, Placement()) for artifact in (module, exported)]
        medians = [[measure(runner, row, calls) for runner in runners] for _ in range(rounds)]
    plain, program = (statistics.median(column) * 1e6 for column in zip(*medians, strict=True))
    added = statistics.median(b - a for a, b in medians) * 1e6
    return f"{plain:12.0f}{program:13.0f}{added:10.0f}"


def measure(runner: Runner, inputs: Tensors, calls: int) -> float:
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        runner.run(inputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
