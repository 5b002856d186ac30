"""A recipe's metrics for answers that come from elsewhere: the same model on another engine, or in less precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from maas.training.data import Part
from maas.types import Signature, Tensors

_ROWS = 32  # of a request

Metrics = Callable[[torch.Tensor, torch.Tensor], Mapping[str, float]]
"""Of outputs against targets."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows that a recipe's card was measured on, cut into requests."""

    part: Part
    score: Metrics
    input_name: str
    output_name: str

    @property
    def inputs(self) -> Sequence[Tensors]:
        pieces = torch.split(self.part.inputs, _ROWS)
        return [{self.input_name: piece.contiguous().numpy()} for piece in pieces]

    def metrics(self, outputs: Sequence[Tensors]) -> Mapping[str, float]:
        """The card's metrics, for the answers to `inputs` in order."""
        together = np.concatenate([answer[self.output_name] for answer in outputs])
        return self.score(torch.from_numpy(together), self.part.targets)


def held_out_of(card: Mapping[str, object], signature: Signature) -> HeldOut | None:
    """The held-out rows of the recipe that `card` names; None where it names none of ours.

    Raises `ModuleNotFoundError` where the package that has the data is not installed.
    """
    find = _HELD_OUT.get(str(card.get("recipe")))
    if find is None or len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return None
    part, score = find()
    return HeldOut(part, score, signature.inputs[0].name, signature.outputs[0].name)


def _digits() -> tuple[Part, Metrics]:
    from maas.training.digits import classification_metrics, load_digits

    return load_digits().held_out, classification_metrics


def _diabetes() -> tuple[Part, Metrics]:
    from maas.training.linear_regression import load_diabetes, regression_metrics

    return load_diabetes().held_out, regression_metrics


def _longley() -> tuple[Part, Metrics]:
    from maas.training.linear_regression import load_longley, regression_metrics

    return load_longley(), regression_metrics


def _breast_cancer() -> tuple[Part, Metrics]:
    from maas.training.logistic_regression import binary_metrics, load_breast_cancer

    return load_breast_cancer()[1].held_out, binary_metrics


def _sunspots() -> tuple[Part, Metrics]:
    from maas.training import rnn

    activity = rnn.load_sunspots()
    part = rnn.windows(activity, rnn.first_held_out(activity), len(activity), rnn.TRAINED_WINDOW)
    return Part(part.inputs, part.targets[:, -1]), rnn.root_mean_squared_error


_HELD_OUT: Mapping[str, Callable[[], tuple[Part, Metrics]]] = {
    "breast-cancer": _breast_cancer,
    "diabetes": _diabetes,
    "digits-cnn": _digits,
    "digits-transformer": _digits,
    "longley": _longley,
    "sunspots-lstm": _sunspots,
}
