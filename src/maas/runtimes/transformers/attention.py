"""Attention of a step: what the models call in place of their own.

A step is one row of tokens: first those that are alone in their slot (decodes), then the chunks of prompts. All of the first
attend together, in one call over the slots between the lowest and the highest of them; every chunk attends alone. A model
hands over its queries, keys and values after its positional encoding, with its scaling, window, cap and sinks; the step hands
itself over as the keyword argument `step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from maas.errors import ModelFailed
from maas.runtimes.transformers.cache import KvCache

ATTENTION = "maas"
"""What our attention is called among those of `transformers`."""


@dataclass(frozen=True, slots=True)
class Part:
    """What attends in one call: tokens `[first, first + slots × queries)` of the step.

    `positions` is int64[slots, queries]; `reach` is one more than the largest, `lowest` the smallest of them. `rows` says which
    of the slots the tokens are for, where it is not all of them.
    """

    first: int
    slots: slice
    positions: torch.Tensor
    lowest: int
    reach: int
    rows: torch.Tensor | None = None
    _masks: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)

    @property
    def tokens(self) -> slice:
        count = self.positions.numel() if self.rows is None else len(self.rows)
        return slice(self.first, self.first + count)

    def begin(self, window: int | None) -> int:
        """The first position that any of its queries sees."""
        return 0 if window is None else max(0, self.lowest - window + 1)

    def mask(self, window: int | None, groups: int, dtype: torch.dtype) -> torch.Tensor:
        """What is added to the scores, float[slots, 1, groups × queries, positions seen]; layers share it."""
        key = (window, groups if self.positions.shape[1] > 1 else 1)
        if key not in self._masks:
            self._masks[key] = self._hide(window, key[1], dtype)
        return self._masks[key]

    def _hide(self, window: int | None, groups: int, dtype: torch.dtype) -> torch.Tensor:
        queries = self.positions.repeat(1, groups)[:, None, :, None]
        seen = torch.arange(self.begin(window), self.reach, device=queries.device)
        hidden = seen > queries
        if window is not None:
            hidden = hidden | (seen <= queries - window)
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
            hidden, float("-inf")
        )


@dataclass(frozen=True, slots=True)
class StepLayout:
    """Where the tokens of a step belong: `slots` and `positions` are int64[token]."""

    cache: KvCache
    slots: torch.Tensor
    positions: torch.Tensor
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a layer attends, as its model says."""

    scaling: float | None
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None  # one for each query head: a score that takes weight and gives nothing


def attend_in_slots(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: StepLayout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Outputs `[1, token, head, width]` of one layer, whose keys and values `[1, head, token, width]` go into the cache.

    `ModelFailed` where the model asks for what is not done here; it is asked before it is served (`support`).
    """
    if attention_mask is not None or position_bias is not None or len(query) != 1:
        raise ModelFailed(f"{type(module).__name__} attends by a mask, a bias or a batch of its own")
    layer = int(str(module.layer_idx))
    cached = step.cache.write(layer, step.slots, step.positions, key[0], value[0])
    rule = _Rule(scaling, sliding_window, softcap, s_aux)
    return torch.cat([_attend_part(query[0], *cached, part, rule) for part in step.parts])[None], None


def _attend_part(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, part: Part, rule: _Rule
) -> torch.Tensor:
    """Outputs `[token, head, width]` of a part; `query` is `[head, token, width]` of the whole step."""
    slots, queries = part.positions.shape
    asked = query[:, part.tokens].reshape(len(query), -1, queries, query.shape[-1]).transpose(0, 1)
    if part.rows is not None:
        everywhere = asked.new_zeros(slots, *asked.shape[1:])
        everywhere[part.rows] = asked
        asked = everywhere
    seen = (part.slots, slice(None), slice(part.begin(rule.window), part.reach))
    answered = _attend(asked, keys[seen], values[seen], part, rule)
    if part.rows is not None:
        answered = answered[part.rows]
    return answered.transpose(1, 2).flatten(0, 1)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, part: Part, rule: _Rule
) -> torch.Tensor:
    """Outputs `[slot, head, query, width]`. Query heads that share a key head become rows of it, so no key is repeated."""
    slots, heads, queries, width = query.shape
    groups = heads // keys.shape[1]
    packed = query.reshape(slots, keys.shape[1], groups * queries, width)
    mask = part.mask(rule.window, groups, query.dtype)
    if rule.softcap is None and rule.sinks is None:
        answered = scaled_dot_product_attention(packed, keys, values, attn_mask=mask, scale=rule.scaling)
    else:
        answered = _attend_by_hand(packed, keys, values, mask, rule, groups)
    return answered.reshape(slots, heads, queries, -1)


def _attend_by_hand(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    rule: _Rule,
    groups: int,
) -> torch.Tensor:
    """With a cap on the scores or sinks beside them, which PyTorch's own attention lacks."""
    scores = (
        query @ keys.transpose(-1, -2) * (query.shape[-1] ** -0.5 if rule.scaling is None else rule.scaling)
    )
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    scores = scores + mask
    if rule.sinks is not None:
        sinks = rule.sinks.view(1, -1, groups, 1, 1).expand(len(query), -1, -1, query.shape[2] // groups, 1)
        scores = torch.cat([scores, sinks.flatten(2, 3).to(scores.dtype)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return weights[..., : keys.shape[2]] @ values


def _no_mask(**_: object) -> None:
    """What a model is to hide is known here, not there."""


AttentionInterface.register(ATTENTION, attend_in_slots)
AttentionMaskInterface.register(ATTENTION, _no_mask)
