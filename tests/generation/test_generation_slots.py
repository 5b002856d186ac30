"""The slot table, by example and against a cache that does what it says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import FakeCache

from maas.generation.slots import Copy, Holding, SlotTable, common_prefix

CONTEXT = 12


class Slots:
    """A table and the cache that carries out its copies."""

    def __init__(self, slots: int) -> None:
        self.table = SlotTable(slots, CONTEXT)
        self.cache = FakeCache(slots, CONTEXT)
        self.live: list[tuple[Holding, list[int]]] = []

    def admit(self, prompt: Sequence[int], answer: int = 1) -> tuple[Holding, list[Copy]]:
        """Admit a prompt and write all of it."""
        holding, copies = self.table.admit(prompt, answer)
        self.cache.copy(copies)
        self.write(holding, prompt[len(holding.tokens) :])
        self.live.append((holding, [*prompt]))
        return holding, copies

    def write(self, holding: Holding, tokens: Sequence[int]) -> None:
        self.cache.write(holding.slot, len(holding.tokens), tokens)
        holding.write(tokens)

    def free(self, index: int) -> None:
        self.table.free(self.live.pop(index)[0])

    def compact(self) -> list[Copy]:
        copies = self.table.compact()
        self.cache.copy(copies)
        return copies

    def check(self) -> None:
        """Live slots are the first ones, and each has in the cache what its job has written."""
        assert sorted(holding.slot for holding, _ in self.live) == [*range(self.table.live)]
        for holding, tokens in self.live:
            assert holding.tokens == tokens
            assert self.cache.read(holding.slot, len(tokens)) == tokens
        assert self.table.reserved == sum(holding.reserved for holding, _ in self.live)


def test_a_hole_is_filled_by_the_last_live_slot() -> None:
    """What moves is copied as far as it is written, and what ended is kept in a slot that was empty."""
    slots = Slots(5)
    for first in range(4):
        slots.admit([first, first, first])
    slots.free(1)
    assert slots.compact() == [Copy(1, 4, 3), Copy(3, 1, 3)]
    slots.check()


def test_a_hole_is_taken_by_the_next_job_without_a_move() -> None:
    """Nothing moves where somebody comes."""
    slots = Slots(3)
    for first in range(3):
        slots.admit([first, 7])
    slots.free(0)
    holding, copies = slots.admit([9, 9])
    assert (holding.slot, copies, slots.compact()) == (0, [], [])


def test_a_prefix_is_copied_from_a_live_slot() -> None:
    """As far as both begin alike."""
    slots = Slots(2)
    slots.admit([1, 2, 3, 4])
    assert slots.admit([1, 2, 3, 5])[1] == [Copy(0, 1, 3)]


def test_the_last_token_of_a_prompt_is_never_copied() -> None:
    """It has to run, for the logits after it."""
    slots = Slots(2)
    slots.admit([1, 2, 3])
    holding, copies = slots.table.admit([1, 2, 3], 1)
    assert (holding.tokens, copies) == ([1, 2], [Copy(0, 1, 2)])


def test_what_has_ended_is_continued_in_place() -> None:
    """The next turn of a conversation begins with what its slot remembers, and nothing is copied."""
    slots = Slots(2)
    slots.admit([1, 2, 3], answer=3)
    slots.write(slots.live[0][0], [4, 5])
    slots.free(0)
    holding, copies = slots.table.admit([1, 2, 3, 4, 5, 6], 1)
    assert (holding.slot, holding.tokens, copies) == (0, [1, 2, 3, 4, 5], [])


def test_conversations_in_turns_are_all_remembered_while_there_are_slots() -> None:
    """A slot that is written over is kept where nothing, or something older, is remembered; one slot is for doing so."""
    slots = Slots(4)
    for turn in range(1, 5):
        for first in (1, 2, 3):
            holding, copies = slots.table.admit([first, *range(turn)], 1)
            slots.cache.copy(copies)
            assert holding.tokens == ([first, *range(turn - 1)] if turn > 1 else [])
            slots.write(holding, [first, *range(turn)][len(holding.tokens) :])
            slots.table.free(holding)


def test_the_oldest_memory_is_written_over() -> None:
    """Of three conversations over two slots the first is forgotten."""
    slots = Slots(2)
    for first in (1, 2, 3):
        slots.admit([first, 7, 7])
        slots.free(0)
    prefixes = []
    for first in (3, 2, 1):
        holding, _ = slots.table.admit([first, 7, 8], 1)
        prefixes.append(len(holding.tokens))
        slots.table.free(holding)
    assert prefixes == [2, 2, 0]


def test_what_a_conversation_has_left_behind_is_written_over_first() -> None:
    """Its former turn is no use once it has been copied, however old another conversation is."""
    slots = Slots(4)
    for prompt in ([3, 7], [1, 7], [2, 7], [1, 7, 7], [2, 7, 7]):
        slots.admit(prompt)
        slots.free(0)
    assert slots.table.admit([3, 7, 7], 1)[0].tokens == [3, 7]


def test_a_prefix_is_copied_before_anything_is_written_over_it() -> None:
    """Where the only other slot is the one that is needed, what stands in the way is forgotten instead."""
    slots = Slots(2)
    for prompt in ([1, 7], [2, 7]):
        slots.admit(prompt)
        slots.free(0)
    assert slots.admit([1, 7, 7])[1] == [Copy(1, 0, 2)]
    slots.check()


def test_nothing_is_written_past_a_reservation() -> None:
    """A table that is asked for more than a slot has, or a holding that is given more than it reserved, has found a bug."""
    table = SlotTable(1, CONTEXT)
    with pytest.raises(AssertionError):
        table.admit([1] * 10, 3)
    holding, _ = table.admit([1] * 10, 2)
    holding.write([1] * 12)
    with pytest.raises(AssertionError):
        holding.write([1])


tokens = st.lists(st.integers(0, 1), min_size=1, max_size=8)
events = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), tokens),
        st.tuples(st.just("free"), st.integers(0, 9)),
        st.tuples(st.just("write"), st.integers(0, 9)),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5), events)
def test_whatever_comes_and_goes_the_cache_holds_what_the_table_says(
    count: int, events: list[tuple[str, object]]
) -> None:
    """Live slots are compact, and every job finds its own tokens, its prefix included, wherever it has been moved."""
    slots = Slots(count)
    for event, value in events:
        if event == "admit" and slots.table.has_room:
            assert isinstance(value, list)
            slots.admit(value, CONTEXT - len(value))
        elif event in ("free", "write") and slots.live:
            assert isinstance(value, int)
            index = value % len(slots.live)
            holding, written = slots.live[index]
            if event == "free":
                slots.free(index)
            elif len(written) < CONTEXT:
                slots.write(holding, [value % 2])
                written.append(value % 2)
        elif event == "compact":
            slots.compact()
            slots.check()
    slots.compact()
    slots.check()


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_a_common_prefix_is_as_long_as_token_by_token(left: list[int], right: list[int]) -> None:
    """The search by halves finds what comparing in order finds."""
    pairs = [one == other for one, other in zip(left, right, strict=False)]
    assert common_prefix(left, right) == [*pairs, False].index(False)
