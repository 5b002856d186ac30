"""What a model does without a server: batches, one after another, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from benchmarks.modules import build
from benchmarks.rounds import Measured

from maas.runtimes.contract import Runner
from maas.types import Tensors

_TURN = 1.0  # seconds


class Eager:
    """A module as PyTorch runs it line by line, asked as a runner is."""

    def __init__(self, kind: type[torch.nn.Module], name: str, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self._module = build(kind)
        self._name = name

    def run(self, inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            return {"output": self._module(torch.from_numpy(inputs[self._name])).numpy()}


def rows_per_second(runner: Runner, batches: Sequence[Tensors], seconds: float = _TURN) -> Measured:
    """All batches, again and again for at least so long; the first does not count."""
    runner.run(batches[0])
    rows, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for batch in batches:
            runner.run(batch)
            rows += len(next(iter(batch.values())))
    return {"req/s": rows / elapsed}
