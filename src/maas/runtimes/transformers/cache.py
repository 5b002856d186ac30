"""Keys and values of all sequences, each in a slot of its own.

A layer has two tensors `[slot, head, position, width]`, made when it first writes, of the heads, widths and dtype that it
hands over: models differ in them, and some in each layer. They are of zeros and hold finite numbers only, for what a mask
hides is multiplied by nought, and nought times infinity would reach a neighbour's answer. Who holds which slot, and how much
of it, is known to the scheduler alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from maas.errors import BadArtifact


@dataclass(frozen=True, slots=True)
class CacheSize:
    """How much is cached: in each of `slots` a sequence of up to `context` tokens."""

    slots: int
    context: int
    bytes_per_token: int

    @property
    def bytes(self) -> int:
        return self.slots * self.context * self.bytes_per_token

    def __str__(self) -> str:
        return f"{self.slots} slots × {self.context} tokens × {self.bytes_per_token} bytes = {self.bytes / 1e6:.1f} MB"


def largest_size(memory: int, most_slots: int, context: int, bytes_per_token: int) -> CacheSize:
    """As many slots as `memory` (bytes) has room for, and no more than `most_slots`; `BadArtifact` where not one fits."""
    one = CacheSize(1, context, bytes_per_token)
    slots = min(memory // one.bytes, most_slots)
    if slots < 1:
        raise BadArtifact(f"the cache may take {memory / 1e6:.1f} MB, and one sequence needs {one}")
    return CacheSize(slots, context, bytes_per_token)


class KvCache:
    def __init__(self, slots: int, context: int) -> None:
        self.slots = slots
        self.context = context
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def bytes(self) -> int:
        """What its tensors take: all of it after the first step, nothing before."""
        return sum(tensor.nbytes for pair in self._layers.values() for tensor in pair)

    @property
    def bytes_per_token(self) -> int:
        return self.bytes // (self.slots * self.context)

    def write(
        self,
        layer: int,
        slots: torch.Tensor,
        positions: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts `[head, token, width]` where `slots` and `positions` (int64[token]) say; the layer's tensors, to be read only."""
        if layer not in self._layers:
            self._layers[layer] = (self._zeros(keys), self._zeros(values))
        for tensor, new in zip(self._layers[layer], (keys, values), strict=True):
            tensor[slots, :, positions] = new.transpose(0, 1).nan_to_num(0.0, 0.0, 0.0)
        return self._layers[layer]

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of a slot, into another: a prefix that both share, or a sequence that moves."""
        for pair in self._layers.values():
            for tensor in pair:
                tensor[target, :, :length] = tensor[source, :, :length]

    def _zeros(self, like: torch.Tensor) -> torch.Tensor:
        heads, _, width = like.shape
        return like.new_zeros(self.slots, heads, self.context, width)

    def __repr__(self) -> str:
        return f"<KvCache {self.slots} slots × {self.context} tokens: {self.bytes} bytes>"
