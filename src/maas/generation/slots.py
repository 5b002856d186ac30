"""The slots of a key/value cache: who holds which, what each still remembers, and what is to be copied.

1. Live slots are 0..n-1 whenever a step runs: a hole is taken by the next job, or else the last live one moves into it.
2. A job reserves its prompt and its longest answer when it is admitted, so nothing that runs is ever short of room.
3. A slot that is freed remembers its tokens until it is written over. A prompt that begins like what any slot holds, live or
   remembered, gets that beginning by a copy; one position of it is always left to run, for its logits.
4. What is about to be written over is copied to a free slot that remembers nothing, or something older, so that what ended last is
   remembered longest. Of so many slots all but one are sure to be of use to conversations in turns.

The tensors are an engine's: it carries out the copies, in their order, before the step that they are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True, slots=True)
class Copy:
    """Positions [0, length) of slot `source`, to be copied to slot `target`."""

    source: int
    target: int
    length: int


class Holding:
    """What slot `slot` holds: the tokens whose keys and values are written, of at most `reserved`."""

    __slots__ = ("freed", "reserved", "slot", "tokens")

    def __init__(self, slot: int, tokens: list[int], reserved: int) -> None:
        self.slot = slot
        self.tokens = tokens
        self.reserved = reserved
        self.freed = 0  # counts the ends; 0 while live

    @property
    def is_live(self) -> bool:
        return not self.freed

    def write(self, tokens: Sequence[int]) -> None:
        """`tokens` have been written behind those that were."""
        assert self.is_live
        assert len(self.tokens) + len(tokens) <= self.reserved
        self.tokens.extend(tokens)


class SlotTable:
    def __init__(self, slots: int, context: int) -> None:
        assert slots > 0
        self._context = context
        self._held: list[Holding | None] = [None] * slots
        self._ends = count(1)
        self._live = 0

    @property
    def has_room(self) -> bool:
        return self._live < len(self._held)

    @property
    def live(self) -> int:
        """Slots that are held."""
        return self._live

    @property
    def reserved(self) -> int:
        """Positions that live slots have reserved."""
        return sum(held.reserved for held in self._held if held is not None and held.is_live)

    def admit(self, prompt: Sequence[int], longest_answer: int) -> tuple[Holding, list[Copy]]:
        """Give a slot to `prompt` and an answer. The holding begins with the prefix that need not be computed."""
        assert self.has_room
        reserved = len(prompt) + longest_answer
        assert reserved <= self._context
        source, length = self._longest_prefix(prompt)
        target = self._target(source)
        copies = []
        if source != target:
            copies += self._remember(target, source)
            if source is not None:
                copies.append(Copy(source, target, length))
                self._forget(source, prompt)
        holding = Holding(target, [*prompt[:length]], reserved)
        self._held[target] = holding
        self._live += 1
        return holding, copies

    def free(self, holding: Holding) -> None:
        """The job has ended. Its slot is a hole until it is taken or `compact` fills it."""
        assert self._held[holding.slot] is holding
        assert holding.is_live
        holding.freed = next(self._ends)
        self._live -= 1

    def compact(self) -> list[Copy]:
        """Move the last live slots into the holes."""
        copies: list[Copy] = []
        holes = [slot for slot in self._free() if slot < self._live]
        for hole, last in zip(holes, self._live_beyond(), strict=True):
            moved = self._held[last]
            assert moved is not None
            copies += self._remember(hole)
            copies += _copy(last, hole, len(moved.tokens))
            moved.slot = hole
            self._held[hole], self._held[last] = moved, None
        return copies

    def _longest_prefix(self, prompt: Sequence[int]) -> tuple[int | None, int]:
        """The slot that begins most like `prompt`, None where none does; and for how many tokens, but the prompt's last."""
        best, longest = None, 0
        start = [*prompt[:-1]]
        for slot, held in enumerate(self._held):
            if held is not None and (length := common_prefix(held.tokens, start)) > longest:
                best, longest = slot, length
        return best, longest

    def _target(self, source: int | None) -> int:
        """A hole or the first slot behind the live ones: that of the prefix itself if it is free, else what is remembered least."""
        free = [slot for slot in self._free() if slot <= self._live]
        return source if source is not None and source in free else min(free, key=self._age)

    def _remember(self, slot: int, needed: int | None = None) -> list[Copy]:
        """Before `slot` is written over: keep what it remembers where less is lost, but not in the slot `needed`."""
        held = self._held[slot]
        others = [other for other in self._free() if other not in (slot, needed)]
        oldest = min(others, key=self._age, default=slot)
        if held is None or self._age(oldest) >= self._age(slot):
            return []
        self._held[oldest], self._held[slot] = held, None
        return _copy(slot, oldest, len(held.tokens))

    def _forget(self, slot: int, prompt: Sequence[int]) -> None:
        """What a free slot remembers is no use where all of it is in the prompt that now runs in another."""
        held = self._held[slot]
        if held is not None and not held.is_live and held.tokens == [*prompt[: len(held.tokens)]]:
            self._held[slot] = None

    def _age(self, slot: int) -> tuple[int, int]:
        """The least for what is to be written over first; among the empty ones the last, which is needed last."""
        held = self._held[slot]
        return (0 if held is None else held.freed, -slot)

    def _free(self) -> list[int]:
        return [slot for slot, held in enumerate(self._held) if held is None or not held.is_live]

    def _live_beyond(self) -> list[int]:
        """Live slots that stand where none should, the last first."""
        slots = range(len(self._held) - 1, self._live - 1, -1)
        return [slot for slot in slots if (held := self._held[slot]) is not None and held.is_live]


def _copy(source: int, target: int, length: int) -> list[Copy]:
    return [Copy(source, target, length)] if length else []


def common_prefix(left: list[int], right: list[int]) -> int:
    """How many tokens both begin with. Slices are compared as a whole, which is some ten times faster than token by token."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
