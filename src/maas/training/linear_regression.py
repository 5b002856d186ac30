"""Linear regression: `longley` in closed form and double precision, `diabetes` by an iterative optimiser.

Both publish the same module: standardise the raw features with constants measured in training, take a weighted
sum, and return to the unit of the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from maas.training.card import gradient_training, model_card
from maas.training.data import Part, Split, sample_requests, split_rows
from maas.training.fitting import ALL_ROWS, Plan, count_parameters, fit
from maas.training.recipe import Progress, Trained, TrainingOptions
from maas.types import Array

LONGLEY_FEATURES = ("GNPDEFL", "GNP", "UNEMP", "ARMED", "POP", "YEAR")
DIABETES_FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


class LinearRegression(nn.Module):
    """`floatN[batch, features]` of raw features → `floatN[batch]` in the unit of the target."""

    feature_mean: torch.Tensor
    feature_scale: torch.Tensor
    target_mean: torch.Tensor
    target_scale: torch.Tensor

    def __init__(self, features: int, dtype: str = "float32") -> None:
        super().__init__()
        kind: torch.dtype = getattr(torch, dtype)
        self.register_buffer("feature_mean", torch.zeros(features, dtype=kind))
        self.register_buffer("feature_scale", torch.ones(features, dtype=kind))
        self.register_buffer("target_mean", torch.zeros((), dtype=kind))
        self.register_buffer("target_scale", torch.ones((), dtype=kind))
        self.linear = nn.Linear(features, 1, dtype=kind)

    def standardise_by(self, part: Part) -> None:
        """Measure on `part` the constants that bring features and target to mean 0 and deviation 1."""
        self.feature_scale, self.feature_mean = torch.std_mean(part.inputs, dim=0, correction=0)
        self.target_scale, self.target_mean = torch.std_mean(part.targets, dim=0, correction=0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        standardised = (features - self.feature_mean) / self.feature_scale
        predicted: torch.Tensor = self.linear(standardised).squeeze(-1)
        return predicted * self.target_scale + self.target_mean

    def raw_coefficients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Slopes `floatN[features]` and intercept `floatN[]` in the units of the data, standardisation undone."""
        slopes = self.linear.weight.detach()[0] * self.target_scale / self.feature_scale
        intercept = self.linear.bias.detach()[0] * self.target_scale + self.target_mean
        return slopes, intercept - slopes @ self.feature_mean


def regression_metrics(predicted: torch.Tensor, targets: torch.Tensor) -> Mapping[str, float]:
    """R² and root mean squared error of `float[rows]` against `float[rows]`."""
    squared = (predicted.double() - targets.double()).square()
    around_mean = (targets.double() - targets.double().mean()).square()
    r2 = 1 - squared.sum() / around_mean.sum()
    return {"r2": round(float(r2), 4), "rmse": round(float(squared.mean().sqrt()), 4)}


# ── longley ──────────────────────────────────────────────────────────────────────────────────────────────────


def train_longley(_options: TrainingOptions, progress: Progress) -> Trained:
    """Least squares over all 16 rows. In closed form there are no epochs, and a seed changes nothing."""
    progress(0, 1, "solving")
    data = load_longley()
    module = LinearRegression(len(LONGLEY_FEATURES), "float64")
    module.standardise_by(data)
    solve_least_squares(module, data)
    progress(1, 1, "solving")
    return Trained(
        module=module.eval(),
        arguments={"features": len(LONGLEY_FEATURES), "dtype": "float64"},
        inputs={"features": f"float64[batch, {len(LONGLEY_FEATURES)}]"},
        outputs={"employment": "float64[batch]"},
        bounds={},
        golden=sample_requests("features", data.inputs),
        card=longley_card(module, data),
    )


def load_longley() -> Part:
    """All rows: features float64[16, 6], employment float64[16] in thousands of people."""
    from statsmodels.datasets import longley

    table = longley.load_pandas()
    features = table.exog[list(LONGLEY_FEATURES)].to_numpy(dtype="float64", copy=True)
    return Part(
        torch.from_numpy(features), torch.from_numpy(table.endog.to_numpy(dtype="float64", copy=True))
    )


def solve_least_squares(module: LinearRegression, data: Part) -> None:
    """Set the weights that minimise the squared error on `data`, by a QR factorisation of the design matrix.

    The columns are nearly collinear. The normal equations would square their condition number; QR does not, and
    standardised columns (condition 110) are far better off than raw ones (5 × 10⁹), which carry large means.
    """
    features = (data.inputs - module.feature_mean) / module.feature_scale
    target = (data.targets - module.target_mean) / module.target_scale
    design = torch.cat([torch.ones_like(target)[:, None], features], dim=1)
    q, r = torch.linalg.qr(design)
    solution = torch.linalg.solve_triangular(r, (q.mT @ target)[:, None], upper=True)[:, 0]
    with torch.no_grad():
        module.linear.bias.copy_(solution[:1])
        module.linear.weight.copy_(solution[None, 1:])


def longley_card(module: LinearRegression, data: Part) -> Mapping[str, Any]:
    slopes, intercept = module.raw_coefficients()
    with torch.no_grad():
        fitted: torch.Tensor = module(data.inputs)
    return model_card(
        data={
            "name": "Longley's US macroeconomic series, 1947 to 1962",
            "source": "statsmodels.datasets.longley",
            "rows": len(data),
            "features": list(LONGLEY_FEATURES),
            "target": "TOTEMP, total employment in thousands of people",
        },
        split={"method": "none: all 16 rows are fitted, so nothing is held out", "training_rows": len(data)},
        preprocessing="in the model: features and target standardised by their mean and deviation; send raw values",
        model={
            "architecture": "linear regression with intercept",
            "parameters": count_parameters(module),
            "coefficients": dict(zip(LONGLEY_FEATURES, slopes.tolist(), strict=True)),
            "intercept": intercept.item(),
        },
        training={
            "loss": "squared error",
            "optimiser": "closed form: QR factorisation of the standardised design matrix, in float64",
            "seed": None,
            "seed_changes": "nothing: the solution is unique",
            "epochs": None,
            "epochs_chosen_by": "none are needed in closed form",
            "loss_curve": {},
        },
        metrics={
            "measured_on": "the 16 rows it was fitted on: no estimate of the error on other years",
            **regression_metrics(fitted, data.targets),
        },
        baselines={
            "mean of the rows": regression_metrics(data.targets.mean().expand(len(data)), data.targets)
        },
        meaning={
            "employment": "total employment, thousands of people",
            "coefficients": "change of employment per unit of a raw feature; nearly collinear, so not causes",
            "r2": "share of the variance of the fitted rows that the model explains; 1 is perfect",
            "rmse": "root mean squared error, thousands of people",
        },
        packages=("statsmodels",),
    )


# ── diabetes ─────────────────────────────────────────────────────────────────────────────────────────────────


def train_diabetes(options: TrainingOptions, progress: Progress) -> Trained:
    """Minimise the squared error by L-BFGS; the card holds the exact solution as its baseline."""
    split = load_diabetes()
    fitted = fit(DIABETES_PLAN, split, options, progress)
    return Trained(
        module=fitted.module,
        arguments={"features": len(DIABETES_FEATURES)},
        inputs={"features": f"float32[batch, {len(DIABETES_FEATURES)}]"},
        outputs={"progression": "float32[batch]"},
        bounds={},
        golden=sample_requests("features", split.held_out.inputs),
        card=model_card(
            data={
                "name": "diabetes patients (Efron et al., 2004)",
                "source": "sklearn.datasets.load_diabetes(scaled=False)",
                "rows": 442,
                "features": list(DIABETES_FEATURES),
                "target": "disease progression one year after the measurements",
            },
            split=split.facts("random 80/20, split seed 0"),
            preprocessing="in the model: features and target standardised by training rows; send raw measurements",
            model={"architecture": "linear regression", "parameters": count_parameters(fitted.module)},
            training=gradient_training(
                fitted,
                seed=options.seed,
                loss="mean squared error of the standardised target",
                optimiser="L-BFGS on all rows, up to 20 iterations in an epoch",
            ),
            metrics={"measured_on": "held-out rows", **evaluate_diabetes(fitted.module, split.held_out)},
            baselines=diabetes_baselines(split),
            meaning={
                "progression": "a quantitative measure of progression after one year, about 25 to 346; no unit",
                "r2": "share of the variance of the held-out rows that the model explains; 1 is perfect",
                "rmse": "root mean squared error, in the target's unit",
            },
            packages=("scikit-learn",),
        ),
    )


def load_diabetes() -> Split:
    """Unscaled features float32[rows, 10], progression float32[rows]."""
    from sklearn.datasets import load_diabetes as load

    table = load(scaled=False)
    features: Array = table.data
    return split_rows(features, table.target)


def build_diabetes(part: Part) -> LinearRegression:
    module = LinearRegression(len(DIABETES_FEATURES))
    module.standardise_by(part)
    return module


def standardised_squared_error(module: nn.Module, part: Part) -> torch.Tensor:
    """Mean squared error in units of the target's variance, so that the learning rate needs no unit."""
    assert isinstance(module, LinearRegression)
    return functional.mse_loss(module(part.inputs), part.targets) / module.target_scale.square()


DIABETES_PLAN = Plan(
    build=build_diabetes,
    loss=standardised_squared_error,
    criterion=standardised_squared_error,
    optimiser=lambda parameters: torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe"),
    epochs=10,
    rows_per_step=ALL_ROWS,
)


def evaluate_diabetes(module: nn.Module, part: Part) -> Mapping[str, float]:
    with torch.no_grad():
        return regression_metrics(module(part.inputs), part.targets)


def diabetes_baselines(split: Split) -> Mapping[str, Mapping[str, float]]:
    """Ordinary least squares, and the mean of the training rows, on the same held-out rows."""
    from sklearn.linear_model import LinearRegression as OrdinaryLeastSquares

    exact = OrdinaryLeastSquares().fit(split.training.inputs.double(), split.training.targets.double())
    predicted = torch.from_numpy(exact.predict(split.held_out.inputs.double()))
    mean = split.training.targets.mean().expand(len(split.held_out))
    return {
        "ordinary least squares": regression_metrics(predicted, split.held_out.targets),
        "mean of the training rows": regression_metrics(mean, split.held_out.targets),
    }
