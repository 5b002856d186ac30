"""From which size raw tensors pay for `maas.client`: one connection, an echo model, float32 of random digits both ways.

    python -m benchmarks.raw_client

prints microseconds of a call, the median of ROUNDS rounds, by JSON and raw. `maas.client.raw.PAYS_FROM` follows from it.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.echo import Echo
from benchmarks.harness import serving

import maas
from maas.client import raw

ELEMENTS = (16, 64, 256, 1024, 4096, 16384, 65536)
ROUNDS = 7
SECONDS = 0.15  # of a round


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        maas.publish(
            Echo,
            {"x": np.ones((2, 8), np.float32)},
            name="echo",
            repository=repository,
            inputs={"x": "float32[batch, n]"},
            outputs={"y": "float32[batch, n]"},
            dimensions={"n": maas.Bounds(1, max(ELEMENTS))},
        )
        with serving(repository) as server, maas.Client(f"http://127.0.0.1:{server.port}") as client:
            print(f"{'elements':>8}  {'bytes':>8}  {'JSON µs':>8}  {'raw µs':>8}")
            for elements in ELEMENTS:
                x = np.random.default_rng(0).standard_normal((1, elements)).astype(np.float32)
                times = {pays_from: [] for pays_from in (math.inf, 0)}
                for _ in range(ROUNDS):  # in turn, so that a noisy minute is both's
                    for pays_from, found in times.items():
                        raw.PAYS_FROM = pays_from
                        found.append(microseconds(client, x))
                medians = "  ".join(f"{statistics.median(found):8.0f}" for found in times.values())
                print(f"{elements:8}  {x.nbytes:8}  {medians}")


def microseconds(client: maas.Client, x: np.ndarray) -> float:
    """Of a call, in the mean of a round, after one to warm up."""
    client.predict("echo", {"x": x})
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        client.predict("echo", {"x": x})
        calls += 1
    return (time.perf_counter() - began) / calls * 1e6


if __name__ == "__main__":
    main()
