"""One step of a model: tokens of many sequences in one pass, without padding.

The owner of the slots says what runs; a step trusts it, so nothing that a request carries may come here unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from transformers import PreTrainedModel

from maas.runtimes.transformers.attention import ATTENTION, Part, StepLayout
from maas.runtimes.transformers.cache import KvCache

_CALL = 1000  # positions of one slot that could be looked at in the time of one call more


class Chunk(Protocol):
    """Tokens of one sequence that go into `slot` from position `start` on; all before are there already.

    One token is a decode, or the end of a prompt. `wants_logits` asks for those after its last token. The scheduler's chunks are
    such.
    """

    @property
    def slot(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def wants_logits(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of nobody's job, for a check or a measurement."""

    slot: int
    start: int
    tokens: Sequence[int]
    wants_logits: bool = True


class StepRunner:
    """A model with its cache. The model attends by ours from here on: `generate` needs its own back."""

    def __init__(self, model: PreTrainedModel, cache: KvCache) -> None:
        self.cache = cache
        self._model = model.train(False)
        self._device = model.device
        model.set_attn_implementation(ATTENTION)

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> torch.Tensor:
        """float32[rows, vocabulary]: the raw logits after each chunk that wants them, in the order of the chunks.

        No two chunks may be of one slot.
        """
        assert all(chunk.tokens and _end(chunk) <= self.cache.context for chunk in chunks)
        assert len({chunk.slot for chunk in chunks}) == len(chunks) > 0
        apart = {chunk.slot for chunk in chunks if len(chunk.tokens) > 1} | far_slots(chunks)
        order = sorted(chunks, key=lambda chunk: (chunk.slot in apart, chunk.slot))
        tokens = self._tensor([token for chunk in order for token in chunk.tokens])
        layout = self._layout(order, len(order) - len(apart))
        answer = self._model(
            input_ids=tokens[None],
            position_ids=layout.positions[None],
            use_cache=False,
            logits_to_keep=self._tensor(_rows(chunks, order)),
            step=layout,
        )
        logits: torch.Tensor = answer.logits[0]
        return logits.float()

    def _layout(self, order: Sequence[Chunk], together: int) -> StepLayout:
        """Of `order` the first attend `together`; they have one token each and stand by slot."""
        slots = [chunk.slot for chunk in order for _ in chunk.tokens]
        positions = self._tensor([at for chunk in order for at in range(chunk.start, _end(chunk))])
        parts = [self._together(order[:together], positions[:together])] if together else []
        first = together
        for chunk in order[together:]:
            own = positions[first : first + len(chunk.tokens)]
            parts.append(Part(first, slice(chunk.slot, chunk.slot + 1), own[None], chunk.start, _end(chunk)))
            first += len(chunk.tokens)
        return StepLayout(self.cache, self._tensor(slots), positions, parts)

    def _together(self, chunks: Sequence[Chunk], positions: torch.Tensor) -> Part:
        """All slots from the lowest to the highest, so that no key is moved; those between them that have no token ask too, in vain."""
        low, high = chunks[0].slot, chunks[-1].slot + 1
        lowest, reach = min(chunk.start for chunk in chunks), max(_end(chunk) for chunk in chunks)
        if len(chunks) == high - low:
            return Part(0, slice(low, high), positions[:, None], lowest, reach)
        rows = self._tensor([chunk.slot - low for chunk in chunks])
        everywhere = torch.full((high - low,), reach - 1, device=self._device)
        everywhere[rows] = positions
        return Part(0, slice(low, high), everywhere[:, None], lowest, reach, rows)

    def _tensor(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


def _end(chunk: Chunk) -> int:
    return chunk.start + len(chunk.tokens)


def far_slots(chunks: Sequence[Chunk]) -> set[int]:
    """Slots of decodes that attend alone, because all others would have to look as far as they do.

    Of the farthest as many as makes the positions that are looked at, calls counted in, the fewest.
    """
    decodes = sorted((chunk for chunk in chunks if len(chunk.tokens) == 1), key=lambda chunk: -_end(chunk))
    apart = list(accumulate((_end(chunk) + _CALL for chunk in decodes), initial=0))
    costs = [alone + len(decodes) * _end(chunk) for alone, chunk in zip(apart, decodes, strict=False)]
    return {chunk.slot for chunk in decodes[: costs.index(min(costs))]} if costs else set()


def _rows(chunks: Sequence[Chunk], order: Sequence[Chunk]) -> list[int]:
    """Where in the step the last token of each chunk stands that wants logits."""
    last: dict[int, int] = {}
    first = 0
    for chunk in order:
        first += len(chunk.tokens)
        last[chunk.slot] = first - 1
    return [last[chunk.slot] for chunk in chunks if chunk.wants_logits]
