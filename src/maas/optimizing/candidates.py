"""Which forms of a model there are to try, and what each needs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

REDUCED = ("bfloat16", "int8")
"""Precisions that are tried only where the owner allows them."""

_GRAPH = "model.onnx"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A form of the model: an engine, what it computes in, and the options that a manifest says that with."""

    engine: str
    precision: str
    options: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    """Packages without which it cannot be made or run."""

    @property
    def label(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def is_reduced(self) -> bool:
        return self.precision in REDUCED


def candidates(
    runtime: str, options: Mapping[str, Any], files: Collection[str], allow: Collection[str]
) -> list[Candidate]:
    """The forms of a version with these runtime options and files. The first is the version itself in float32,
    against which the others are held."""
    plain = {key: value for key, value in options.items() if key != "precision"}
    found = [Candidate(runtime, "float32", plain)]
    if runtime == "torch":
        found += [
            Candidate("torch", "bfloat16", {**plain, "precision": "bfloat16"}),
            *_of_graph(("onnx", "onnxscript")),
        ]
    elif _GRAPH in files:
        found += [each for each in _of_graph(()) if each.label != found[0].label]
    elif runtime == "openvino":
        found.append(Candidate("openvino", "bfloat16", {"precision": "bfloat16"}))
    return [each for each in found if not each.is_reduced or each.precision in allow]


def _of_graph(converters: tuple[str, ...]) -> Iterator[Candidate]:
    yield Candidate("onnxruntime", "float32", {}, (*converters, "onnxruntime"))
    yield Candidate("onnxruntime", "int8", {}, (*converters, "onnx", "onnxruntime"))
    yield Candidate("openvino", "float32", {"precision": "float32"}, (*converters, "openvino"))
    yield Candidate("openvino", "bfloat16", {"precision": "bfloat16"}, (*converters, "openvino"))


def placements(cores: int) -> list[tuple[int, int]]:
    """(instances, threads of each) to try on so many cores: one of one, then all ways to use them all by powers of two."""
    splits = [(cores // threads, threads) for threads in _powers(cores)]
    return list(dict.fromkeys([(1, 1), *splits, (1, cores)]))


def batch_sizes(most: int) -> list[int]:
    """Rows of a batch to try: powers of four, and the most that there may be."""
    sizes = [1, 4, 16, 64, 256, 1024]
    return [size for size in sizes if size < most] + [most]


def _powers(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2
