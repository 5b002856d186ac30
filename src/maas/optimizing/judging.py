"""Whether a candidate's answers are right, and which candidate is best. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maas.dtypes import BFLOAT16, is_float
from maas.types import Array, Signature, Tensors, Tolerance

Target = Literal["throughput", "latency", "memory"]

LEAST_GAIN = 1.05
"""A candidate that is less than this much better than what there is is not worth another version: timing is as noisy."""

_HIGHER_IS_BETTER = {
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "recall",
    "f1",
    "auc",
    "roc_auc",
    "r2",
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a form did at one placement: rows a second at its best batch size, seconds for one row alone, bytes."""

    samples_per_second: float
    batch_size: int
    latency: float
    memory: int
    by_length: tuple[tuple[Mapping[str, int], float], ...] = ()
    """Rows a second at each of the lengths that were measured."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. `refusal` says why it is not to be chosen; empty where it may be. `is_final`: it was measured in
    turns with the others that are, so that only their numbers may be held against each other."""

    label: str
    instances: int
    threads: int
    measurement: Measurement | None
    error: float | None = None
    metric_loss: float | None = None
    refusal: str = ""
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How far answers may go: a share of an output's size in float32 and in reduced precision, and points of a metric."""

    exact: float = 1e-3
    reduced: float = 2e-2
    metric_loss: float = 0.5

    def of(self, is_reduced: bool, signature: Signature) -> float:
        """An output of bfloat16 has steps of nearly a hundredth, so its model is in reduced precision whatever computes it."""
        is_coarse = any(spec.dtype == BFLOAT16 for spec in signature.outputs)
        return self.reduced if is_reduced or is_coarse else self.exact


def largest_error(signature: Signature, expected: Tensors, actual: Tensors) -> float:
    """The largest difference in any output, as a share of the largest number that is expected of that output.

    Infinite where a shape differs, where only one of the two is finite, or where what are no real numbers differ at all.
    """
    return max(_error(expected[spec.name], actual[spec.name]) for spec in signature.outputs)


def refusal(error: float, allowed: float, loss: float | None, allowed_loss: float) -> str:
    """Why answers with such an error are not taken; empty where they are."""
    if not error <= allowed:
        return f"answers are off by {error:.2g}; allowed is {allowed:g}"
    if loss is not None and not loss <= allowed_loss:
        return f"the task's metric loses {loss:.2g} points; allowed are {allowed_loss:g}"
    return ""


def metric_loss(reference: Mapping[str, object], candidate: Mapping[str, object]) -> float | None:
    """How many points (hundredths) any metric got worse at most; None where there is none to compare.

    A share of 1, such as accuracy, loses the difference; an error, such as rmse or a loss, its growth as a share of itself.
    """
    losses = []
    for name, before in reference.items():
        after = candidate.get(name)
        if isinstance(before, (int, float)) and isinstance(after, (int, float)):
            is_share = name in _HIGHER_IS_BETTER
            losses.append(
                100 * ((before - after) if is_share else (after - before) / max(abs(before), 1e-12))
            )
    return max(losses) if losses else None


def tolerances(
    signature: Signature, outputs: Sequence[Tensors], allowed: float, parent: Mapping[str, Tolerance]
) -> dict[str, Tolerance]:
    """The parent's tolerances, widened so that answers within `allowed` of the golden `outputs` pass the self-test."""
    found = dict(parent)
    for spec in signature.outputs:
        if is_float(spec.numpy_dtype):
            before = found.get(spec.dtype, Tolerance(0.0, 0.0))
            size = max(_size(arrays[spec.name]) for arrays in outputs)
            found[spec.dtype] = Tolerance(
                max(before.relative, allowed), max(before.absolute, float(f"{allowed * size:.3g}"))
            )
    return found


def best(results: Sequence[Result], target: Target) -> Result | None:
    """The result that serves the target best among those that may be chosen; the first of equals."""
    eligible = [result for result in results if not result.refusal and result.measurement is not None]
    return max(eligible, key=lambda result: _merit(result, target), default=None)


def finalists(results: Sequence[Result], baseline: Result, target: Target) -> list[Result]:
    """Those between whom it is decided: what there is now, and the two best others that may be chosen."""
    others = [each for each in results if not each.refusal and each.measurement and each is not baseline]
    return [baseline, *sorted(others, key=lambda each: _merit(each, target), reverse=True)[:2]]


def gain(winner: Result, baseline: Result, target: Target) -> float:
    """How many times as good the winner is as what there is now."""
    return _merit(winner, target) / _merit(baseline, target)


def _merit(result: Result, target: Target) -> float:
    assert result.measurement is not None
    if target == "throughput":
        return result.measurement.samples_per_second
    if target == "latency":
        return 1 / result.measurement.latency
    return 1 / max(1, result.measurement.memory)


def _error(expected: Array, actual: Array) -> float:
    if expected.shape != actual.shape:
        return float("inf")
    if not is_float(expected.dtype):
        return 0.0 if np.array_equal(expected, actual) else float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(actual)) or not np.array_equal(
        expected[~finite], actual[~finite], equal_nan=True
    ):
        return float("inf")
    difference = np.abs(actual[finite].astype(np.float64) - expected[finite])
    worst = float(difference.max(initial=0.0))
    return worst / size if (size := _size(expected)) else worst


def _size(array: Array) -> float:
    """The largest finite number in it."""
    finite = array[np.isfinite(array)]
    return float(np.abs(finite.astype(np.float64)).max(initial=0.0))
