"""The digits that two recipes learn: 1,797 images of 8×8 pixels from 0 (paper) to 16 (ink), in ten classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from maas.training.data import Part, Split, split_rows

CLASSES = 10
SIDE = 8
INK = 16.0
"""The value of a pixel that is all ink, as the data set counts it."""

TURN_RADIANS = 0.14
STRETCH = 0.07
SHIFT_PIXELS = 0.56
"""How far at most an image is turned, stretched and shifted in training."""

DATA: Mapping[str, Any] = {
    "name": "optical recognition of handwritten digits (UCI), the test set of the original",
    "source": "sklearn.datasets.load_digits",
    "rows": 1797,
    "features": f"image of {SIDE}×{SIDE} pixels, each a count from 0 (paper) to {INK:g} (ink)",
    "target": "the digit, 0 to 9",
}
SPLIT_METHOD = "random 80/20, stratified by digit, split seed 0"
MEANING: Mapping[str, str] = {
    "probabilities": "probabilities[i, k] is how likely image i shows the digit k; each row sums to 1",
    "accuracy": "share of held-out images whose most probable digit is the right one",
    "log_loss": "mean of -log(probability given to the right digit); 0 is perfect, 2.30 is guessing",
}


def load_digits() -> Split:
    """Images float32[rows, 8, 8] with pixels 0–16, and digits int64[rows]."""
    from sklearn.datasets import load_digits as load

    digits = load()
    return split_rows(digits.images, digits.target, digits.target)


def jittered(images: torch.Tensor) -> torch.Tensor:
    """`float32[rows, 8, 8]`, each turned, stretched and shifted a little at random, as another hand might write."""
    rows = len(images)
    turn, stretch = _uniform(rows, TURN_RADIANS), 1 + _uniform(rows, STRETCH)
    shift = 2 * SHIFT_PIXELS / SIDE  # affine_grid's unit is half an image
    across = torch.stack([stretch * turn.cos(), -stretch * turn.sin(), _uniform(rows, shift)], dim=1)
    down = torch.stack([stretch * turn.sin(), stretch * turn.cos(), _uniform(rows, shift)], dim=1)
    grid = functional.affine_grid(
        torch.stack([across, down], dim=1), [rows, 1, SIDE, SIDE], align_corners=False
    )
    return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def _uniform(rows: int, most: float) -> torch.Tensor:
    return (2 * torch.rand(rows) - 1) * most


def classification_metrics(probabilities: torch.Tensor, classes: torch.Tensor) -> Mapping[str, float]:
    """Accuracy and log-loss (natural logarithm) of float32[rows, classes] against int64[rows]."""
    right = (probabilities.argmax(dim=1) == classes).double().mean()
    # A probability that underflowed to 0 would make the loss infinite, which JSON cannot carry.
    likely = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)
    log_loss = functional.nll_loss(likely.double().log(), classes)
    return {"accuracy": round(float(right), 4), "log_loss": round(float(log_loss), 4)}


def baselines(split: Split) -> Mapping[str, Mapping[str, float]]:
    """What simpler classifiers reach on the same split: a linear one, and the nearest training images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    (pixels, digits), (new_pixels, new_digits) = _flat(split.training), _flat(split.held_out)
    linear = LogisticRegression(max_iter=1000).fit(pixels, digits)
    nearest = KNeighborsClassifier(n_neighbors=3).fit(pixels, digits)
    return {
        "logistic regression on pixels": {"accuracy": round(linear.score(new_pixels, new_digits), 4)},
        "3 nearest neighbours": {"accuracy": round(nearest.score(new_pixels, new_digits), 4)},
    }


def _flat(part: Part) -> tuple[Any, Any]:
    return (part.inputs / INK).flatten(1).numpy(), part.targets.numpy()
