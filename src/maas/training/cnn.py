"""Convolutional network: `digits-cnn` reads 8×8 images of handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from maas.training.card import gradient_training, model_card
from maas.training.data import Part, Split, sample_requests
from maas.training.digits import (
    CLASSES,
    DATA,
    INK,
    MEANING,
    SIDE,
    SPLIT_METHOD,
    baselines,
    classification_metrics,
    jittered,
    load_digits,
)
from maas.training.fitting import Fit, Plan, count_parameters, fit
from maas.training.recipe import Progress, Trained, TrainingOptions

CHANNELS = 16


class DigitsCNN(nn.Module):
    """`float32[batch, 8, 8]` of pixels 0–16 → `float32[batch, 10]` of class probabilities.

    Three 3×3 convolutions, halving the image after the second and the third; 8×8 → 4×4 → 2×2.
    """

    def __init__(self, channels: int, dropout: float = 0.3) -> None:
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            *_convolution(1, channels),
            *_convolution(channels, wide),
            nn.MaxPool2d(2),
            *_convolution(wide, wide),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(wide * (SIDE // 4) ** 2, CLASSES),
        )

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Unnormalised log-probabilities `float32[batch, 10]`."""
        logits: torch.Tensor = self.layers(image[:, None] / INK)
        return logits

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits(image).softmax(dim=-1)


def _convolution(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    # Batch normalisation brings its own bias.
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()


def train_digits(options: TrainingOptions, progress: Progress) -> Trained:
    """Load, train, evaluate: the probability of each digit from raw pixels."""
    split = load_digits()
    fitted = fit(PLAN, split, options, progress)
    return Trained(
        module=fitted.module,
        arguments={"channels": CHANNELS},
        inputs={"image": f"float32[batch, {SIDE}, {SIDE}]"},
        outputs={"probabilities": f"float32[batch, {CLASSES}]"},
        bounds={},
        golden=sample_requests("image", split.held_out.inputs),
        card=card(split, fitted, options),
    )


def cross_entropy(module: nn.Module, part: Part) -> torch.Tensor:
    assert isinstance(module, DigitsCNN)
    return functional.cross_entropy(module.logits(part.inputs), part.targets)


PLAN = Plan(
    build=lambda _part: DigitsCNN(CHANNELS),
    loss=cross_entropy,
    criterion=cross_entropy,
    optimiser=lambda parameters: torch.optim.AdamW(parameters, lr=0.005, weight_decay=0.01),
    epochs=30,
    rows_per_step=64,
    augment=jittered,
)


def evaluate(module: nn.Module, part: Part) -> Mapping[str, float]:
    with torch.no_grad():
        return classification_metrics(module(part.inputs), part.targets)


def card(split: Split, fitted: Fit, options: TrainingOptions) -> Mapping[str, Any]:
    return model_card(
        data=DATA,
        split=split.facts(SPLIT_METHOD),
        preprocessing="in the model: pixels divided by 16; send raw pixels, 0 to 16",
        model={
            "architecture": "3 convolutions with batch normalisation, 2 poolings, 1 linear layer",
            "parameters": count_parameters(fitted.module),
        },
        training=gradient_training(
            fitted,
            seed=options.seed,
            loss="cross-entropy, on training images turned, stretched and shifted a little at random",
            optimiser="AdamW",
        ),
        metrics={"measured_on": "held-out images", **evaluate(fitted.module, split.held_out)},
        baselines=baselines(split),
        meaning=MEANING,
        packages=("scikit-learn",),
    )
