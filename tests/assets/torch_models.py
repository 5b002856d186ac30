"""PyTorch modules that tests publish; importable, so that a model process can build them again."""

from __future__ import annotations

import torch
from tests.assets.fault_models import is_model_process, limit_memory
from torch import nn


class Affine(nn.Module):
    """Two outputs, `y` and the sum of its columns; a parameter, a buffer, and a constant that is neither."""

    def __init__(self, features: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 2)
        self.register_buffer("scale", torch.tensor([2.0, 3.0]))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.layer(x) * self.scale
        return y, y.sum(dim=1)


class Shifted(nn.Module):
    """Adds a plain tensor attribute, which an export keeps as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.tensor([1.0, 2.0, 3.0])
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.shift)


class Difference(nn.Module):
    """a - b: the order of its inputs matters."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"difference": a - b, "sum": a + b}


class Attention(nn.Module):
    """Scaled dot-product self-attention over token ids, averaged over the length."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.encode = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.encode(self.embed(ids)).mean(dim=1)).softmax(dim=-1)


class Recurrent(nn.Module):
    """An LSTM's last state; its export would fix the sequence length."""

    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.cells = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        states, _ = self.cells(window.unsqueeze(-1))
        return self.head(states[:, -1]).squeeze(-1)


class Tied(nn.Module):
    """Its output layer shares the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids))


class Forgetful(nn.Module):
    """Keeps a tensor that its state does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("steps", torch.ones(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.steps


class BatchMean(nn.Module):
    """Subtracts the mean over the batch: every answer depends on who else is in it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(dim=0)


class Optional(nn.Module):
    """a - b, or a - b + c: its last input may be left out, its second as well."""

    def forward(
        self, a: torch.Tensor, b: torch.Tensor | None = None, c: torch.Tensor | None = None
    ) -> torch.Tensor:
        difference = a if b is None else a - b
        return difference if c is None else difference + c


class Variadic(nn.Module):
    """The first minus all others."""

    def forward(self, *terms: torch.Tensor) -> torch.Tensor:
        return terms[0] - sum(terms[1:])


class Half(nn.Module):
    """Answers in a type that NumPy does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float8_e5m2)


class Root(nn.Module):
    """NaN for what is negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sqrt()


class Confined(nn.Module):
    """Has addresses for four rows of 64 MB; PyTorch's allocator is refused the fifth, once it is limited."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((), 2.0))
        self._is_limited = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_model_process():
            if not self._is_limited:
                self._is_limited = True
                limit_memory(320 << 20)
            torch.empty(len(x) * (64 << 20), dtype=torch.uint8)
        return x * self.factor


class Mean(nn.Module):
    """The mean of what the mask lets in; or, without regard to it, of everything, padding too."""

    def __init__(self, minds_mask: bool = True) -> None:
        super().__init__()
        self.minds_mask = minds_mask
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.float() if self.minds_mask else torch.ones_like(x)
        return self.scale * (x * weights).sum(dim=1) / weights.sum(dim=1)


class Brain(nn.Module):
    """bfloat16 in, in its weights and out: a mean over what a mask lets in, and a layer."""

    def __init__(self, features: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 2, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        let_in = mask.unsqueeze(-1)
        return self.layer((x * let_in).sum(dim=1) / let_in.sum(dim=1))
