"""The models that are measured, as plain PyTorch: peers build the very same from here, so nothing of ours is imported."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attention

PADDING = 0  # no token


class Mlp(nn.Module):
    """Three layers over 16 features: a model that costs so little that everything else shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


class Cnn(nn.Module):
    """`float32[batch, 3, 64, 64]` → `float32[batch, 10]`: four convolutions that halve the image, then a mean."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 128)
        self.layers = nn.Sequential(*(_halving(before, after) for before, after in pairwise(widths)))
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.layers(image).mean((2, 3)))
        return logits


def _halving(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU())


class Encoder(nn.Module):
    """`int64[batch, seq]` of tokens → `float32[batch, width]`: a transformer encoder of six layers, and the mean of its tokens.

    Tokens that are `PADDING` are seen by nobody and are not in the mean.
    """

    def __init__(self, layers: int = 6, width: int = 384, heads: int = 6, words: int = 1000) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(128, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = ids != PADDING
        tokens = self.words(ids) + self.places[: ids.shape[1]]
        for layer in self.layers:
            tokens = layer(tokens, there[:, None, None, :])
        weights = there.unsqueeze(-1).to(tokens.dtype)
        mean: torch.Tensor = (self.norm(tokens) * weights).sum(1) / weights.sum(1)
        return mean


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.joined = (nn.Linear(width, width) for _ in range(4))
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        normed = self.before_attention(tokens)
        seen = attention(*(self._split(part(normed)) for part in (self.query, self.key, self.value)), there)
        tokens = tokens + self.joined(seen.transpose(1, 2).flatten(2))
        result: torch.Tensor = tokens + self.network(self.before_network(tokens))
        return result

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        rows, length, width = tokens.shape
        return tokens.reshape(rows, length, self.heads, width // self.heads).transpose(1, 2)


def build(kind: type[nn.Module]) -> nn.Module:
    """Always with the same weights, ready to answer."""
    torch.manual_seed(0)
    return kind().eval()
