"""How epochs are chosen and a model is fitted, on a model with one weight."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from maas.training.arithmetic import reproducible_arithmetic
from maas.training.data import Part, Split
from maas.training.fitting import Plan, fit
from maas.training.recipe import TrainingOptions, silent


def part(slope: float, rows: int) -> Part:
    inputs = torch.linspace(1, 2, rows)[:, None]
    return Part(inputs, slope * inputs)


def squared_error(module: nn.Module, rows: Part) -> torch.Tensor:
    return (module(rows.inputs) - rows.targets).square().mean()


def from_zero(_part: Part) -> nn.Module:
    line = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(line.weight)
    return line


PLAN = Plan(
    build=from_zero,
    loss=squared_error,
    criterion=squared_error,
    optimiser=lambda parameters: torch.optim.SGD(parameters, lr=0.02),
    epochs=40,
    rows_per_step=4,
)
# The weight moves from 0 towards 2 and passes 1, where the validation rows lie, on its way.
SPLIT = Split(fit=part(2, 8), validation=part(1, 4), training=part(2, 12), held_out=part(float("nan"), 4))


def test_epochs_are_where_validation_is_best():
    """Training goes on while the validation rows gain, and what is kept has run just so long."""
    fitted = fit(PLAN, SPLIT, TrainingOptions(), silent)
    assert fitted.choice is not None
    assert len(fitted.choice.validation) == PLAN.epochs
    assert fitted.choice.validation[fitted.epochs - 1] == min(fitted.choice.validation)
    assert 1 < fitted.epochs < PLAN.epochs
    assert len(fitted.curve.training) == fitted.epochs


def test_given_epochs_skip_the_choice():
    """A number from the caller is the number of epochs."""
    fitted = fit(PLAN, SPLIT, TrainingOptions(epochs=3), silent)
    assert (fitted.epochs, len(fitted.curve.training), fitted.choice) == (3, 3, None)


def test_final_model_is_fitted_on_the_whole_training_split():
    """The rows that validated are trained on once the number of epochs is known."""
    seen: list[int] = []
    plan = replace(PLAN, build=lambda rows: (seen.append(len(rows)), from_zero(rows))[1])
    fit(plan, SPLIT, TrainingOptions(), silent)
    assert seen == [len(SPLIT.fit), len(SPLIT.training)]


def test_minibatches_cover_every_row_once():
    """An epoch shows each row once, in steps of at most `rows_per_step`."""
    steps: list[list[float]] = []

    def watched(module: nn.Module, rows: Part) -> torch.Tensor:
        steps.append(rows.inputs[:, 0].tolist())
        return squared_error(module, rows)

    fit(replace(PLAN, loss=watched, rows_per_step=5), SPLIT, TrainingOptions(epochs=1), silent)
    assert max(map(len, steps)) <= 5
    assert sorted(value for step in steps for value in step) == SPLIT.training.inputs[:, 0].tolist()


def test_long_gradients_are_shortened():
    """One exploding step moves the weights no further than the norm allows."""
    plan = replace(PLAN, max_gradient_norm=0.5, rows_per_step=12)
    fitted = fit(plan, SPLIT, TrainingOptions(epochs=1), silent)
    assert abs(fitted.module.weight.item()) <= 0.02 * 0.5 * (1 + 1e-5)


def test_result_does_not_depend_on_the_number_of_threads():
    """Inside, sums have one order, whatever number of threads the program uses."""
    before = torch.get_num_threads()
    with reproducible_arithmetic():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
