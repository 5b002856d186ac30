"""Transformer encoder: `digits-transformer` reads an image as a sequence of patches that attend to each other.

Follows Vaswani et al., "Attention Is All You Need" (2017), https://arxiv.org/abs/1706.03762, sections 3.1 to 3.3,
with two later habits: normalisation before each sublayer (Xiong et al., 2020, https://arxiv.org/abs/2002.04745),
and patches of an image as the tokens (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929).
"""

from __future__ import annotations

import math
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

PATCH = 2
"""Side of a patch in pixels; an image is (8 / 2)² = 16 patches of 4 pixels."""
PATCHES = (SIDE // PATCH) ** 2
WIDTH, HEADS, LAYERS = 48, 4, 2
POSITION_SCALE = 0.5
"""Spread of the positions at first: where ink is matters as much as that it is there, so not the usual 0.02."""


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention, softmax(QKᵀ/√d)V: equation 1 of Vaswani et al. (2017).

    Takes `float32[..., tokens, d]` three times and returns as much: for each query the mean of the values, weighted
    by how well their keys match it. Without √d the products grow with d and the softmax saturates.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1) @ value


class SelfAttention(nn.Module):
    """Multi-head self-attention, section 3.2.2: `float32[batch, tokens, width]` → the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        heads = attention(*(self._split(part(tokens)) for part in (self.query, self.key, self.value)))
        joined: torch.Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return joined

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens, width]` → `[batch, heads, tokens, width / heads]`."""
        rows, length, width = tokens.shape
        return tokens.reshape(rows, length, self.heads, width // self.heads).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention between tokens, then a small network within each; both added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens)))
        result: torch.Tensor = tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
        return result


class DigitsTransformer(nn.Module):
    """`float32[batch, 8, 8]` of pixels 0–16 → `float32[batch, 10]` of class probabilities."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Linear(PATCH * PATCH, width)
        self.position = nn.Parameter(torch.randn(PATCHES, width) * POSITION_SCALE)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, dropout) for _ in range(layers)))
        # Reads every token at its own place: with so few images, that generalises better than their mean.
        self.readout = nn.Sequential(
            nn.LayerNorm(width), nn.Flatten(), nn.Dropout(dropout), nn.Linear(PATCHES * width, CLASSES)
        )

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Unnormalised log-probabilities `float32[batch, 10]`."""
        tokens = self.embedding(patches(image / INK)) + self.position
        logits: torch.Tensor = self.readout(self.layers(tokens))
        return logits

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits(image).softmax(dim=-1)


def patches(image: torch.Tensor) -> torch.Tensor:
    """`[batch, 8, 8]` → `[batch, 16, 4]`: the 2×2 squares, row by row, the pixels of each in a line."""
    along = SIDE // PATCH
    squares = image.reshape(-1, along, PATCH, along, PATCH)  # [batch, down, PATCH, across, PATCH]
    return squares.transpose(2, 3).reshape(-1, PATCHES, PATCH * PATCH)


def train_digits(options: TrainingOptions, progress: Progress) -> Trained:
    """Load, train, evaluate: the probability of each digit from raw pixels."""
    split = load_digits()
    fitted = fit(PLAN, split, options, progress)
    return Trained(
        module=fitted.module,
        arguments={"width": WIDTH, "heads": HEADS, "layers": LAYERS},
        inputs={"image": f"float32[batch, {SIDE}, {SIDE}]"},
        outputs={"probabilities": f"float32[batch, {CLASSES}]"},
        bounds={},
        golden=sample_requests("image", split.held_out.inputs),
        card=card(split, fitted, options),
    )


def cross_entropy(module: nn.Module, part: Part) -> torch.Tensor:
    assert isinstance(module, DigitsTransformer)
    return functional.cross_entropy(module.logits(part.inputs), part.targets)


PLAN = Plan(
    build=lambda _part: DigitsTransformer(WIDTH, HEADS, LAYERS),
    loss=cross_entropy,
    criterion=cross_entropy,
    optimiser=lambda parameters: torch.optim.AdamW(parameters, lr=0.003, weight_decay=0.01),
    epochs=25,
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
        preprocessing="in the model: pixels divided by 16 and cut into 2×2 patches; send raw pixels, 0 to 16",
        model={
            "architecture": f"transformer encoder: {PATCHES} patches, width {WIDTH}, {HEADS} heads, {LAYERS} layers",
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
