"""Rows and their split: what a model is fitted on, what chooses its epochs, what it is measured on.

1. `held_out` is 20 % of the rows and is touched once, by the evaluation.
2. `training` is the rest; `validation` is 20 % of it, and `fit` what then remains.
3. The split is the same for every seed of a training run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maas.types import Array

SPLIT_SEED = 0
HELD_OUT_SHARE = 0.2
VALIDATION_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a data set: raw `inputs` and the `targets` they belong to, both with rows on the first axis."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: torch.Tensor) -> Part:
        return Part(self.inputs[index], self.targets[index])


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a data set; `training` is `fit` and `validation` together."""

    fit: Part
    validation: Part
    training: Part
    held_out: Part

    def facts(self, method: str) -> Mapping[str, Any]:
        """How the rows were split and how many went where, for the model card."""
        return {
            "method": method,
            "training_rows": len(self.training),
            "of_which_validation_rows": len(self.validation),
            "held_out_rows": len(self.held_out),
        }


def split_rows(inputs: Array, targets: Array, classes: Array | None = None) -> Split:
    """Split at random, 80/20 and then 80/20 again; the share of each of the `classes`, if given, is the same in every part.

    Floating-point rows become float32; classes stay integers.
    """
    everything = Part(_tensor(inputs), _tensor(targets))
    training, held_out = _divide(np.arange(len(targets)), HELD_OUT_SHARE, classes)
    fit, validation = _divide(training, VALIDATION_SHARE, None if classes is None else classes[training])
    return Split(
        *(everything.rows(torch.from_numpy(index)) for index in (fit, validation, training, held_out))
    )


def _tensor(array: Array) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.float() if tensor.is_floating_point() else tensor


def _divide(index: Array, share: float, classes: Array | None) -> tuple[Array, Array]:
    from sklearn.model_selection import train_test_split

    larger, smaller = train_test_split(index, test_size=share, random_state=SPLIT_SEED, stratify=classes)
    return larger, smaller


def sample_requests(
    name: str, inputs: torch.Tensor, rows: Sequence[int] = (1, 2, 4)
) -> Sequence[Mapping[str, torch.Tensor]]:
    """Requests of the given numbers of rows, cut from the beginning of `inputs`, under the input's `name`."""
    return [{name: piece.clone()} for piece in torch.split(inputs[: sum(rows)], list(rows))]
