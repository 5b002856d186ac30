"""What the engines give on this machine: a 6-layer encoder by length, and a convolutional network by rows.

    python benchmarks/runtimes.py [--rounds 9] [--rows 8] [--bfloat16] [--compile]

Each engine runs in this process with one thread; rounds of all of them alternate. Medians; errors against PyTorch in
float32, as a share of the largest answer. Left out unless asked for are bfloat16, for which OpenVINO takes twenty times as
long on a processor without its instructions, and `torch.compile`, which takes a minute and a C++ compiler.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import describe_machine
from torch import nn
from torch.nn import functional

from maas import runtimes
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.onnxruntime import quantize
from maas.runtimes.torch.export import write_exported
from maas.runtimes.torch.onnx import write_onnx
from maas.runtimes.torch.runner import TorchRunner
from maas.types import Bounds, Signature, Tensors

LENGTHS = (8, 16, 32, 64, 128)
ROWS = (1, 8, 32)
WORDS = 1000


@dataclass(frozen=True)
class Subject:
    """A model, what it takes, and the requests to time it with, by what stands at the head of their column."""

    name: str
    module: nn.Module
    signature: Signature
    requests: Mapping[str, Tensors]


class Layer(nn.Module):
    """One layer of an encoder, normalised before each of its halves."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        rows, length, width = states.shape
        parts = self.project(self.norms[0](states)).chunk(3, dim=-1)
        query, key, value = (
            part.reshape(rows, length, self.heads, width // self.heads).transpose(1, 2) for part in parts
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        states = states + self.join(mixed.transpose(1, 2).reshape(rows, length, width))
        return states + self.narrow(functional.gelu(self.widen(self.norms[1](states))))


class Encoder(nn.Module):
    """Width 384, 6 heads, 6 layers, inner width 1536: the mean state over a sequence of token ids."""

    def __init__(self, width: int = 384, heads: int = 6, inner: int = 1536, layers: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.layers = nn.Sequential(*(Layer(width, heads, inner) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layers(self.embed(ids))).mean(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=8, help="of the encoder's batches")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(describe_machine())
    for subject in (encoder(options.rows), convolutions()):
        with tempfile.TemporaryDirectory() as folder:
            engines = load_all(subject, Path(folder), options.bfloat16)
            if options.compile:
                engines["torch.compile float32"] = compiled(subject)
            print(f"\n{subject.name}, rows/s" + "".join(f"{head:>10}" for head in subject.requests))
            report(engines, subject.requests, options.rounds)


def encoder(rows: int) -> Subject:
    random = np.random.default_rng(0)
    requests = {f"{length}": {"ids": random.integers(0, WORDS, (rows, length))} for length in LENGTHS}
    signature = Signature.parse(
        {"ids": "int64[batch, seq]"}, {"vectors": "float32[batch, 384]"}, {"seq": Bounds(8, 128)}
    )
    return Subject(f"encoder, {rows} rows of", Encoder(), signature, requests)


def convolutions() -> Subject:
    def block(channels: int, out: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        ]

    module = nn.Sequential(
        *(*block(3, 32, 1), *block(32, 64, 2), *block(64, 64, 1), *block(64, 128, 2), *block(128, 128, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    random = np.random.default_rng(0)
    requests = {
        f"{rows}": {"input": random.normal(size=(rows, 3, 64, 64)).astype(np.float32)} for rows in ROWS
    }
    signature = Signature.parse({"input": "float32[batch, 3, 64, 64]"}, {"scores": "float32[batch, 10]"}, {})
    return Subject("cnn of 3×64×64", module, signature, requests)


def load_all(subject: Subject, folder: Path, with_bfloat16: bool) -> dict[str, Runner]:
    """Every engine with the model; the first is PyTorch in float32."""
    plain, graph, small = (folder / name for name in ("plain", "graph", "small"))
    for each in (plain, graph, small):
        each.mkdir()
    sample = next(iter(subject.requests.values()))
    options = write_exported(plain, subject.module, subject.signature, [sample])
    write_onnx(graph, Artifact(plain, subject.signature, options), sample)
    quantize(graph / "model.onnx", small)

    def load(directory: Path, **options: str) -> Runner:
        artifact = Artifact(directory, subject.signature, options)
        return runtimes.runtime(options["name"]).load(artifact, Placement())

    engines = {
        "torch float32": load(plain, **options),
        "onnxruntime float32": load(graph, name="onnxruntime"),
        "onnxruntime int8": load(small, name="onnxruntime"),
        "openvino float32": load(graph, name="openvino"),
    }
    if with_bfloat16:
        engines["torch bfloat16"] = load(plain, **options, precision="bfloat16")
        engines["openvino bfloat16"] = load(graph, name="openvino", precision="bfloat16")
    return engines


def compiled(subject: Subject) -> Runner:
    """The module by `torch.compile`, with its variable dimensions; it compiles when it first runs."""
    forward = torch.compile(subject.module.eval(), dynamic=True)
    names = tuple(
        tuple(spec.name for spec in specs) for specs in (subject.signature.inputs, subject.signature.outputs)
    )
    runner = TorchRunner(forward, *names, torch.device("cpu"))
    started = time.perf_counter()
    for request in subject.requests.values():
        runner.run(request)
    print(f"\ntorch.compile took {time.perf_counter() - started:.0f} s")
    return runner


def report(engines: Mapping[str, Runner], requests: Mapping[str, Tensors], rounds: int) -> None:
    columns = [compare(engines, request, rounds) for request in requests.values()]
    for label in engines:
        rates = "".join(f"{rates[label]:10.0f}" for rates, _ in columns)
        print(f"{label:24}{rates}   error {max(errors[label] for _, errors in columns):.1e}")


def compare(
    engines: Mapping[str, Runner], request: Tensors, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Rows a second and error of each engine."""
    answers = {label: next(iter(runner.run(request).values())) for label, runner in engines.items()}
    expected = answers["torch float32"]
    errors = {
        label: float(np.abs(each - expected).max() / np.abs(expected).max())
        for label, each in answers.items()
    }
    taken: dict[str, list[float]] = {label: [] for label in engines}
    for _ in range(rounds):
        for label, runner in engines.items():
            taken[label].append(seconds(lambda runner=runner: runner.run(request)))
    rows = len(expected)
    return {label: rows / statistics.median(each) for label, each in taken.items()}, errors


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
