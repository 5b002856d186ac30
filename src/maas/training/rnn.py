"""Recurrent network: `sunspots-lstm` forecasts next year's sunspot activity from a window of past years.

The window may be of any length in bounds. The network is trained to forecast the next year at every position of
its windows from the ninth on, so that each length is one it has seen. Nine is also the order of the
autoregression that it is compared with: the solar cycle lasts about eleven years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from maas.training.card import gradient_training, model_card
from maas.training.data import HELD_OUT_SHARE, VALIDATION_SHARE, Part, Split
from maas.training.fitting import Fit, Plan, count_parameters, fit
from maas.training.recipe import Progress, Trained, TrainingOptions
from maas.types import Bounds

HIDDEN = 32
SHORTEST_WINDOW = 9
TRAINED_WINDOW = 32
LONGEST_WINDOW = 64
AUTOREGRESSION_ORDER = 9
FIRST_YEAR = 1700


class SunspotsLSTM(nn.Module):
    """`float32[batch, time]` of yearly activity, oldest first → `float32[batch]`, the year that follows."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.lstm = nn.LSTM(input_size=1, hidden_size=hidden, batch_first=True)
        self.output = nn.Linear(hidden, 1)

    def standardise_by(self, activity: torch.Tensor) -> None:
        """Measure on `activity` the constants that bring it to mean 0 and deviation 1."""
        self.scale, self.mean = torch.std_mean(activity, correction=0)

    def forecasts(self, window: torch.Tensor) -> torch.Tensor:
        """`float32[batch, time]`: at each position the forecast of the year after it, from the years up to it."""
        states, _ = self.lstm(((window - self.mean) / self.scale)[..., None])
        standardised: torch.Tensor = self.output(states).squeeze(-1)
        return standardised * self.scale + self.mean

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return self.forecasts(window)[:, -1]


def train_sunspots(options: TrainingOptions, progress: Progress) -> Trained:
    """Load, train, evaluate: one-step forecasts of yearly sunspot activity."""
    activity = load_sunspots()
    split = split_in_time(activity)
    fitted = fit(PLAN, split, options, progress)
    return Trained(
        module=fitted.module,
        arguments={"hidden": HIDDEN},
        inputs={"window": "float32[batch, time]"},
        outputs={"forecast": "float32[batch]"},
        bounds={"time": Bounds(min=SHORTEST_WINDOW, max=LONGEST_WINDOW)},
        golden=sample_windows(activity),
        card=card(activity, split, fitted, options),
    )


def load_sunspots() -> torch.Tensor:
    """Yearly activity `float32[309]`, 1700 to 2008."""
    from statsmodels.datasets import sunspots

    table = sunspots.load_pandas().data
    return torch.from_numpy(table["SUNACTIVITY"].to_numpy(dtype="float32", copy=True))


def first_held_out(activity: torch.Tensor) -> int:
    """The position of the first year of the last 20 %."""
    return int(len(activity) * (1 - HELD_OUT_SHARE))


def split_in_time(activity: torch.Tensor) -> Split:
    """Windows by the year that each forecasts: the last 20 % held out, the 20 % before that for validation.

    A held-out year's window may reach back into the training years, as it would in use; never the reverse.
    """
    held_out = first_held_out(activity)
    validation = int(held_out * (1 - VALIDATION_SHARE))
    first = TRAINED_WINDOW
    return Split(
        fit=windows(activity, first, validation),
        validation=windows(activity, validation, held_out),
        training=windows(activity, first, held_out),
        held_out=windows(activity, held_out, len(activity)),
    )


def windows(activity: torch.Tensor, first: int, end: int, length: int = TRAINED_WINDOW) -> Part:
    """One row for each year in `[first, end)`: the `length` years before it, and the year after each of those."""
    past = activity[first - length : end].unfold(0, length + 1, 1)
    return Part(past[:, :-1], past[:, 1:])


def sample_windows(activity: torch.Tensor) -> Sequence[Mapping[str, torch.Tensor]]:
    """Requests of several lengths, each of whose windows ends just before a held-out year."""
    begin = first_held_out(activity)
    lengths = {SHORTEST_WINDOW: 1, 11: 2, TRAINED_WINDOW: 4, LONGEST_WINDOW: 2}
    return [
        {"window": windows(activity, begin, begin + rows, length).inputs.clone()}
        for length, rows in lengths.items()
    ]


def build(part: Part) -> SunspotsLSTM:
    module = SunspotsLSTM(HIDDEN)
    module.standardise_by(part.inputs)
    return module


def squared_error_of_each_length(module: nn.Module, part: Part) -> torch.Tensor:
    """Mean over all positions from the shortest window on, in units of the variance."""
    assert isinstance(module, SunspotsLSTM)
    errors = (module.forecasts(part.inputs) - part.targets) / module.scale
    return errors[:, SHORTEST_WINDOW - 1 :].square().mean()


def squared_error(module: nn.Module, part: Part) -> torch.Tensor:
    """Mean over the forecasts of whole windows, in units of the variance."""
    assert isinstance(module, SunspotsLSTM)
    return functional.mse_loss(module(part.inputs), part.targets[:, -1]) / module.scale.square()


PLAN = Plan(
    build=build,
    loss=squared_error_of_each_length,
    criterion=squared_error,
    optimiser=lambda parameters: torch.optim.AdamW(parameters, lr=0.005, weight_decay=0.01),
    epochs=60,
    rows_per_step=32,
    max_gradient_norm=1.0,  # errors of a recurrent network may explode through time
)


def root_mean_squared_error(predicted: torch.Tensor, actual: torch.Tensor) -> Mapping[str, float]:
    error = (predicted.double() - actual.double()).square().mean().sqrt()
    return {"rmse": round(float(error), 2)}


def evaluate(module: nn.Module, activity: torch.Tensor, length: int) -> Mapping[str, float]:
    """The error of one-step forecasts of the held-out years from windows of `length` years."""
    part = windows(activity, first_held_out(activity), len(activity), length)
    with torch.no_grad():
        return root_mean_squared_error(module(part.inputs), part.targets[:, -1])


def baselines(activity: torch.Tensor) -> Mapping[str, Mapping[str, float]]:
    """The last year repeated, and an autoregression fitted to the training years, on the held-out years."""
    held_out = first_held_out(activity)
    actual = activity[held_out:]
    repeated = activity[held_out - 1 : -1]
    return {
        "naive (last year repeated)": root_mean_squared_error(repeated, actual),
        f"AR({AUTOREGRESSION_ORDER})": root_mean_squared_error(autoregression(activity, held_out), actual),
    }


def autoregression(activity: torch.Tensor, held_out: int) -> torch.Tensor:
    """One-step forecasts `float64[years]` of the years from `held_out` on, fitted by least squares before it."""
    past = windows(activity.double(), AUTOREGRESSION_ORDER, len(activity), AUTOREGRESSION_ORDER)
    design = torch.cat([torch.ones(len(past), 1, dtype=torch.float64), past.inputs], dim=1)
    fitted = held_out - AUTOREGRESSION_ORDER
    weights = torch.linalg.lstsq(design[:fitted], past.targets[:fitted, -1:]).solution
    forecasts: torch.Tensor = design[fitted:] @ weights
    return forecasts[:, 0]


def card(activity: torch.Tensor, split: Split, fitted: Fit, options: TrainingOptions) -> Mapping[str, Any]:
    lengths = (SHORTEST_WINDOW, 16, TRAINED_WINDOW, LONGEST_WINDOW)
    by_length = {str(length): evaluate(fitted.module, activity, length)["rmse"] for length in lengths}
    last_training_year = FIRST_YEAR + first_held_out(activity) - 1
    return model_card(
        data={
            "name": "yearly sunspot activity, 1700 to 2008",
            "source": "statsmodels.datasets.sunspots",
            "rows": len(activity),
            "features": "activity (mean number of sunspots) of consecutive years, oldest first",
            "target": "activity of the year that follows the window",
        },
        split=split.facts(
            f"in time: the last 20 % of the years, those after {last_training_year}, are held out"
        ),
        preprocessing="in the model: activity standardised by training years; send raw counts",
        model={
            "architecture": f"LSTM with {HIDDEN} hidden units and a linear output",
            "parameters": count_parameters(fitted.module),
        },
        training=gradient_training(
            fitted,
            seed=options.seed,
            loss=f"mean squared error of the next year, at every position from {SHORTEST_WINDOW} years on",
            optimiser="AdamW",
        ),
        metrics={
            "measured_on": f"one-step forecasts of the held-out years, from windows of {TRAINED_WINDOW} years",
            **evaluate(fitted.module, activity, TRAINED_WINDOW),
            "rmse_by_window_length": by_length,
        },
        baselines=baselines(activity),
        meaning={
            "forecast": "expected activity of the next year, in sunspots; may fall slightly below 0 at a minimum",
            "rmse": "root mean squared error of the forecast, in sunspots",
        },
        packages=("statsmodels",),
    )
