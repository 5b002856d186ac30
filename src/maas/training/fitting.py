"""How every recipe that learns in steps is trained: choose the number of epochs, then train.

1. Train on the `fit` part and measure the criterion on the `validation` part after every epoch.
2. The epoch with the lowest criterion is the number of epochs.
3. Train anew, with the same seed, on the whole `training` split for that number. The held-out rows are not seen.

What is measured and kept is not the last weights but their moving average over some hundred steps. Single steps
jump about, the average is settled after every epoch: so runs of different lengths need no learning-rate schedules
of different lengths, and the number that step 1 found means the same in step 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel

from maas.training.data import Part, Split
from maas.training.recipe import Progress, TrainingOptions

AVERAGE_DECAY = 0.99
"""Weight of what was averaged so far against the newest weights: a memory of about 100 steps."""
ALL_ROWS = 2**31
"""As `rows_per_step`: a step sees every row, as methods with a line search need."""

Loss = Callable[[torch.nn.Module, Part], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is trained, by any optimiser of PyTorch.

    `build` makes a fresh module whose preprocessing is measured on the part that it will be fitted on; `loss` is
    minimised over minibatches of `rows_per_step`; `criterion`, without any penalty, is what validation compares;
    `epochs` is the most that validation may choose; `augment` varies the inputs of a minibatch.
    """

    build: Callable[[Part], torch.nn.Module]
    loss: Loss
    criterion: Loss
    optimiser: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
    epochs: int
    rows_per_step: int
    max_gradient_norm: float = math.inf
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Loss per epoch: the mean over minibatches, each before its step; the criterion on validation rows, if any."""

    training: list[float]
    validation: list[float]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted module in evaluation mode and how it came about; `choice` is None if the epochs were given."""

    module: torch.nn.Module
    epochs: int
    curve: Curve
    choice: Curve | None


def fit(plan: Plan, split: Split, options: TrainingOptions, progress: Progress) -> Fit:
    """Train on the whole training split, for `options.epochs` or as many epochs as validation chooses."""
    choice = None
    epochs = options.epochs
    if epochs is None:
        watched = _Watched(progress, plan.epochs, "choosing the number of epochs")
        _, choice = _run(plan, split.fit, split.validation, plan.epochs, options.seed, watched)
        epochs = 1 + min(range(plan.epochs), key=choice.validation.__getitem__)
    module, curve = _run(
        plan, split.training, None, epochs, options.seed, _Watched(progress, epochs, "training")
    )
    return Fit(module, epochs, curve, choice)


def count_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True, slots=True)
class _Watched:
    """One phase of a run as its `Progress` hears it."""

    progress: Progress
    epochs: int
    message: str

    def __call__(self, epoch: int) -> None:
        self.progress(epoch, self.epochs, self.message)


def _run(
    plan: Plan, part: Part, validation: Part | None, epochs: int, seed: int, done: Callable[[int], None]
) -> tuple[torch.nn.Module, Curve]:
    torch.manual_seed(seed)
    module = plan.build(part)
    average = AveragedModel(module, avg_fn=_moving_average, use_buffers=True)
    optimiser = plan.optimiser(module.parameters())
    curve = Curve([], [])
    done(0)
    for epoch in range(epochs):
        curve.training.append(_train_one_epoch(plan, module, part, optimiser, average))
        if validation is not None:
            curve.validation.append(_measure(plan, average.module, validation))
        done(epoch + 1)
    return average.module.eval(), curve


def _train_one_epoch(
    plan: Plan, module: torch.nn.Module, part: Part, optimiser: torch.optim.Optimizer, average: AveragedModel
) -> float:
    """One pass over the rows in random order; the mean loss of its minibatches."""
    module.train()
    total = 0.0
    for index in torch.randperm(len(part)).tensor_split(math.ceil(len(part) / plan.rows_per_step)):
        rows = part.rows(index)
        if plan.augment is not None:
            rows = Part(plan.augment(rows.inputs), rows.targets)
        total += len(rows) * float(optimiser.step(_descent(plan, module, rows)) or 0.0)
        average.update_parameters(module)
    return total / len(part)


def _descent(plan: Plan, module: torch.nn.Module, rows: Part) -> Callable[[], float]:
    """What an optimiser calls for the loss with its gradients: once, or several times for a line search."""

    def loss_and_gradients() -> float:
        module.zero_grad()
        loss = plan.loss(module, rows)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), plan.max_gradient_norm)
        return loss.item()

    return loss_and_gradients


def _measure(plan: Plan, module: torch.nn.Module, part: Part) -> float:
    module.eval()
    with torch.no_grad():
        return plan.criterion(module, part).item()


def _moving_average(
    average: torch.Tensor, newest: torch.Tensor, averaged: torch.Tensor | int
) -> torch.Tensor:
    """A younger average forgets faster, so that the first weights, which are random, do not linger."""
    if not average.is_floating_point():  # a counter among the buffers
        return newest
    decay = min(AVERAGE_DECAY, (1 + int(averaged)) / (10 + int(averaged)))
    return average.lerp(newest, 1 - decay)
