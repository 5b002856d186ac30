"""The model card: what a reader of a published model must know to trust its numbers, as JSON-able values."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from maas.training.fitting import Curve, Fit

MAX_CURVE_POINTS = 100
CURVE_DIGITS = 4


def model_card(
    *,
    data: Mapping[str, Any],
    split: Mapping[str, Any],
    preprocessing: str,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    baselines: Mapping[str, Any],
    meaning: Mapping[str, str],
    packages: Sequence[str],
) -> Mapping[str, Any]:
    """Every part that a card has; a recipe that forgets one does not run.

    `metrics` says on which rows it was `measured_on`, and `baselines` were measured on the same ones; `meaning`
    explains the outputs and the metrics in words; `packages` are those that the data and the baselines came from.
    """
    return {
        "data": dict(data),
        "split": dict(split),
        "preprocessing": preprocessing,
        "model": dict(model),
        "training": dict(training),
        "metrics": dict(metrics),
        "baselines": {name: dict(values) for name, values in baselines.items()},
        "meaning": dict(meaning),
        "versions": _versions(packages),
    }


def gradient_training(fitted: Fit, *, seed: int, loss: str, optimiser: str) -> Mapping[str, Any]:
    """The facts of a run of `maas.training.fitting.fit`."""
    curves = {"training": loss_curve(fitted.curve)}
    if fitted.choice is not None:
        curves["choice_of_epochs"] = loss_curve(fitted.choice)
    return {
        "loss": loss,
        "optimiser": optimiser,
        "seed": seed,
        "seed_changes": "initial weights, order of rows, dropout and augmentation; never the split",
        "epochs": fitted.epochs,
        "epochs_chosen_by": "the options" if fitted.choice is None else "lowest loss on the validation rows",
        "trained_on": "the whole training split, once the number of epochs was known",
        "loss_curve": curves,
    }


def loss_curve(curve: Curve) -> Mapping[str, Any]:
    """The curve at up to 100 epochs, evenly spaced and with the last, to four significant digits."""
    last = len(curve.training) - 1
    points = min(last + 1, MAX_CURVE_POINTS)
    epochs = sorted({round(point * last / max(1, points - 1)) for point in range(points)})
    lines = {"training": curve.training, "validation": curve.validation}
    return {"epoch": [epoch + 1 for epoch in epochs]} | {
        name: [_significant(line[epoch]) for epoch in epochs] for name, line in lines.items() if line
    }


def _significant(value: float) -> float:
    return float(f"{value:.{CURVE_DIGITS}g}")


def _versions(packages: Sequence[str]) -> Mapping[str, str]:
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("torch", "numpy", *packages)
    }
