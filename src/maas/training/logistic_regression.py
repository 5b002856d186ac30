"""Logistic regression: `breast-cancer`, the probability that a mass is malignant.

The objective is scikit-learn's at its default C = 1, so that the two can be compared: the log-loss summed over the
training rows plus half the squared norm of the standardised weights, the bias free. Divided by the rows, it is a
mean that a learning rate suits whatever their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from maas.training.card import gradient_training, model_card
from maas.training.data import Part, Split, sample_requests, split_rows
from maas.training.fitting import ALL_ROWS, Fit, Loss, Plan, count_parameters, fit
from maas.training.recipe import Progress, Trained, TrainingOptions

FEATURES = 30
INVERSE_REGULARISATION = 1.0
"""scikit-learn's C: how much the rows weigh against the penalty on the weights."""
THRESHOLD = 0.5


class LogisticRegression(nn.Module):
    """`float32[batch, features]` of raw features → `float32[batch]` of probabilities."""

    feature_mean: torch.Tensor
    feature_scale: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        self.linear = nn.Linear(features, 1)

    def standardise_by(self, part: Part) -> None:
        """Measure on `part` the constants that bring the features to mean 0 and deviation 1."""
        self.feature_scale, self.feature_mean = torch.std_mean(part.inputs, dim=0, correction=0)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds `float32[batch]`."""
        logits: torch.Tensor = self.linear((features - self.feature_mean) / self.feature_scale).squeeze(-1)
        return logits

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.logits(features).sigmoid()


def train_breast_cancer(options: TrainingOptions, progress: Progress) -> Trained:
    """Load, train, evaluate: the probability of the malignant class from raw measurements."""
    names, split = load_breast_cancer()
    fitted = fit(plan_for(split), split, options, progress)
    return Trained(
        module=fitted.module,
        arguments={"features": FEATURES},
        inputs={"features": f"float32[batch, {FEATURES}]"},
        outputs={"malignant": "float32[batch]"},
        bounds={},
        golden=sample_requests("features", split.held_out.inputs),
        card=card(names, split, fitted, options),
    )


def load_breast_cancer() -> tuple[list[str], Split]:
    """Names of the features, and the split: features float32[rows, 30], 1.0 where malignant float32[rows]."""
    from sklearn.datasets import load_breast_cancer as load

    table = load()
    # scikit-learn counts malignant as class 0; a caller who reads `malignant: 0.97` must not have to know.
    malignant = (table.target == list(table.target_names).index("malignant")).astype("float32")
    return [str(name) for name in table.feature_names], split_rows(table.data, malignant, table.target)


def plan_for(split: Split) -> Plan:
    return Plan(
        build=build,
        loss=penalised(INVERSE_REGULARISATION * len(split.training)),
        criterion=log_loss,
        optimiser=lambda parameters: torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe"),
        epochs=10,
        rows_per_step=ALL_ROWS,
    )


def build(part: Part) -> LogisticRegression:
    module = LogisticRegression(FEATURES)
    module.standardise_by(part)
    return module


def log_loss(module: nn.Module, part: Part) -> torch.Tensor:
    """Mean negative log-likelihood; from logits, which do not saturate."""
    assert isinstance(module, LogisticRegression)
    return functional.binary_cross_entropy_with_logits(module.logits(part.inputs), part.targets)


def penalised(rows: float) -> Loss:
    """The log-loss plus |weights|² / (2 · rows), `rows` being C times the number of training rows."""

    def loss(module: nn.Module, part: Part) -> torch.Tensor:
        assert isinstance(module, LogisticRegression)
        return log_loss(module, part) + module.linear.weight.square().sum() / (2 * rows)

    return loss


def binary_metrics(probabilities: torch.Tensor, classes: torch.Tensor) -> Mapping[str, float]:
    """Accuracy at 0.5, log-loss, and the share of malignant rows found, of float[rows] against 0/1 float[rows]."""
    found = probabilities >= THRESHOLD
    malignant = classes >= THRESHOLD
    likelihood = functional.binary_cross_entropy(probabilities.double(), classes.double())
    return {
        "accuracy": round(float((found == malignant).double().mean()), 4),
        "log_loss": round(float(likelihood), 5),
        "sensitivity": round(float(found[malignant].double().mean()), 4),
    }


def evaluate(module: nn.Module, part: Part) -> Mapping[str, float]:
    with torch.no_grad():
        return binary_metrics(module(part.inputs), part.targets)


def baselines(split: Split) -> Mapping[str, Mapping[str, float]]:
    """scikit-learn's solver on the same rows, standardisation and C, and the share of malignant training rows."""
    from sklearn.linear_model import LogisticRegression as Reference
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reference = make_pipeline(StandardScaler(), Reference(C=INVERSE_REGULARISATION, max_iter=1000))
    reference.fit(split.training.inputs.double(), split.training.targets)
    probabilities = torch.from_numpy(reference.predict_proba(split.held_out.inputs.double())[:, 1])
    share = split.training.targets.mean().expand(len(split.held_out))
    return {
        "scikit-learn logistic regression": binary_metrics(probabilities, split.held_out.targets),
        "share of malignant training rows": binary_metrics(share, split.held_out.targets),
    }


def card(names: list[str], split: Split, fitted: Fit, options: TrainingOptions) -> Mapping[str, Any]:
    return model_card(
        data={
            "name": "breast cancer Wisconsin (diagnostic)",
            "source": "sklearn.datasets.load_breast_cancer",
            "rows": 569,
            "features": names,
            "target": "1 where the mass is malignant (212 rows), 0 where it is benign (357 rows)",
        },
        split=split.facts("random 80/20, stratified by class, split seed 0"),
        preprocessing="in the model: features standardised by training rows; send raw measurements",
        model={"architecture": "logistic regression", "parameters": count_parameters(fitted.module)},
        training=gradient_training(
            fitted,
            seed=options.seed,
            loss="mean log-loss + |weights|² / (2 · C · rows), C = 1, on standardised features; the bias is free",
            optimiser="L-BFGS on all rows, up to 20 iterations in an epoch",
        ),
        metrics={"measured_on": "held-out rows", **evaluate(fitted.module, split.held_out)},
        baselines=baselines(split),
        meaning={
            "malignant": "probability that the mass is malignant; a demonstration, not a medical device",
            "accuracy": "share of held-out rows on the right side of 0.5",
            "log_loss": "mean of -log(probability given to the true class); 0 is perfect",
            "sensitivity": "share of the malignant held-out rows that are above 0.5",
        },
        packages=("scikit-learn",),
    )
