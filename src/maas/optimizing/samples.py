"""Inputs to measure with: rows of the declared shapes, seeded, made of the values that the golden samples hold.

Values of a model's own samples are what it may be asked: token ids that it knows, pixels in their range, masks of 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from maas.runtimes.golden import GoldenSample
from maas.types import BATCH, Array, Signature, Tensors

_LENGTHS = 3  # of a variable dimension: the shortest, the longest, and one between
_UNBOUNDED = 4  # times the longest golden length, where no greatest is declared


class Generator:
    """Makes requests for one model; the same calls in the same order give the same requests."""

    def __init__(self, signature: Signature, samples: Sequence[GoldenSample], seed: int = 0) -> None:
        self._signature = signature
        self._values = {
            spec.name: np.concatenate([sample.inputs[spec.name].reshape(-1) for sample in samples])
            for spec in signature.inputs
        }
        self._random = np.random.default_rng(seed)
        self.lengths = _lengths(signature, samples)
        """Lengths of the variable dimensions to measure at, from short to long; one entry without any where there are none."""

    def request(self, rows: int, lengths: dict[str, int]) -> Tensors:
        """Inputs of `rows` rows."""
        sizes = {**lengths, BATCH: rows}
        return {
            spec.name: self._draw(
                spec.name, tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims)
            )
            for spec in self._signature.inputs
        }

    def _draw(self, name: str, shape: tuple[int, ...]) -> Array:
        values = self._values[name]
        drawn: Array = values[self._random.integers(0, len(values), shape)]
        return drawn


def _lengths(signature: Signature, samples: Sequence[GoldenSample]) -> list[dict[str, int]]:
    longest: dict[str, int] = {}
    for sample in samples:
        for spec in signature.inputs:
            for dim, length in zip(spec.dims, sample.inputs[spec.name].shape, strict=True):
                if isinstance(dim, str) and dim != BATCH:
                    longest[dim] = max(length, longest.get(dim, 0))
    steps = range(_LENGTHS) if longest else range(1)
    found = [{dim: _between(signature, dim, longest[dim], step) for dim in longest} for step in steps]
    return [lengths for index, lengths in enumerate(found) if lengths not in found[:index]]


def _between(signature: Signature, dim: str, longest: int, step: int) -> int:
    """The length at `step`: from the least to the greatest in equal ratios."""
    limits = signature.limits_of(dim)
    most = limits.max if limits.max is not None else max(limits.min, _UNBOUNDED * longest)
    ratio = math.pow(most / limits.min, step / (_LENGTHS - 1))
    return round(limits.min * ratio)
