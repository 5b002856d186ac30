"""A model in steps over slots answers what `generate` answers to each prompt alone."""

from __future__ import annotations

import random

import pytest
import torch
from tests.runtimes.transformers.driver import greedy_by_generate, greedy_in_steps
from tests.runtimes.transformers.models import SUPPORTED, VOCABULARY, tiny_model

from maas.runtimes.transformers.cache import KvCache
from maas.runtimes.transformers.step import Piece, StepRunner, far_slots

LENGTHS = (3, 61, 17, 40, 1, 29)
LONGEST = (20, 8, 14, 24, 11, 17, 9, 10)


def prompts() -> list[list[int]]:
    numbers = random.Random(5)
    return [[numbers.randrange(3, VOCABULARY) for _ in range(length)] for length in LENGTHS]


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_greedy_answers_are_those_of_generate(model_type: str) -> None:
    """Eight requests over four slots, prompts in chunks: each has, token by token, the answer that it has alone.

    The last two begin like the second, so they find what it has left in the cache.
    """
    model = tiny_model(model_type)
    asked = [*prompts(), prompts()[1], prompts()[1][:50] + prompts()[2]]
    alone = [greedy_by_generate(model, p, n) for p, n in zip(asked, LONGEST, strict=True)]
    together = greedy_in_steps(StepRunner(model, KvCache(4, 96)), asked, LONGEST, budget=24)
    assert together == alone
    assert len({token for answer in alone for token in answer}) > 20, "answers that repeat prove little"


def assert_agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To the precision of float32, as a share of the largest logit."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def in_chunks(
    runner: StepRunner, slot: int, tokens: list[int], start: int = 0, size: int = 16
) -> torch.Tensor:
    """The logits after the last of the tokens, which go into the slot from `start` on; float32[vocabulary]."""
    for first in range(0, len(tokens), size):
        rows = runner.run([Piece(slot, start + first, tokens[first : first + size])])
    return rows[0]


def test_logits_come_in_the_order_in_which_they_were_asked_for() -> None:
    """Whatever the order of slots, lengths and holes, the rows follow the chunks, without those that want none."""
    runner = StepRunner(tiny_model("llama"), KvCache(6, 96))
    fed = dict(zip((4, 0, 5, 2), prompts(), strict=False))
    alone = {
        slot: in_chunks(StepRunner(tiny_model("llama"), KvCache(1, 96)), 0, p) for slot, p in fed.items()
    }
    # Two have one token left, with slots between them that have none; two have more, and one of them wants no logits.
    before = {4: 2, 0: 40, 5: 10, 2: 39}
    for slot, length in before.items():
        in_chunks(runner, slot, fed[slot][:length])
    chunks = [Piece(slot, before[slot], fed[slot][before[slot] :], wants_logits=slot != 0) for slot in fed]
    assert_agree(runner.run(chunks), torch.stack([alone[4], alone[5], alone[2]]))


def test_step_without_logits_has_no_rows() -> None:
    """A step of chunks that end in the middle of their prompts answers float32[0, vocabulary]."""
    runner = StepRunner(tiny_model("llama"), KvCache(1, 32))
    assert runner.run([Piece(0, 0, [7, 8, 9], wants_logits=False)]).shape == (0, VOCABULARY)


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "deepseek_v3"])
def test_copied_prefix_is_worth_what_was_computed(model_type: str) -> None:
    """A prompt whose first part is copied from another slot is answered as if all of it had been read."""
    shared, rest = prompts()[1], prompts()[2]
    runner = StepRunner(tiny_model(model_type), KvCache(3, 96))
    whole = in_chunks(runner, 0, shared + rest)
    runner.cache.copy(source=0, target=2, length=len(shared))
    assert_agree(in_chunks(runner, 2, rest, start=len(shared)), whole)


@pytest.mark.parametrize("model_type", ["llama", "gpt_oss"])
def test_what_is_not_a_number_stays_with_whom_it_came_from(model_type: str) -> None:
    """A sequence whose numbers overflow leaves nothing behind that would reach the next in its slot, or one beside it."""
    model = tiny_model(model_type)
    with torch.no_grad():
        model.get_input_embeddings().weight[5] = float("nan")
    runner = StepRunner(model, KvCache(2, 96))
    good = [token for token in prompts()[1] if token != 5]
    assert in_chunks(runner, 0, [5] * 80).isnan().any()
    before = in_chunks(runner, 1, good[:-1]), in_chunks(runner, 0, good[:9])
    assert all(row.isfinite().all() for row in before)
    both = runner.run([Piece(0, 9, good[9:10]), Piece(1, len(good) - 1, good[-1:])])
    alone = StepRunner(model, KvCache(1, 96))
    assert_agree(both, torch.stack([in_chunks(alone, 0, good[:10]), in_chunks(alone, 0, good)]))


@pytest.mark.parametrize(
    ("ends", "far"),
    [
        ([], set()),
        ([1000], set()),
        ([100] * 15 + [1000], {15}),  # one call more instead of 15 × 900 positions in vain
        ([900] + [100] * 13 + [1000], {0, 14}),
        ([100, 1000], set()),  # 900 positions in vain are less than a call
        ([100] * 8 + [1000] * 8, set()),  # eight calls more would cost as much
        ([200] * 16, set()),
    ],
)
def test_few_that_are_far_attend_alone(ends: list[int], far: set[int]) -> None:
    """Decodes attend together unless a few are so long that the others would look at much more for their sake."""
    decodes = [Piece(slot, end - 1, [7]) for slot, end in enumerate(ends)]
    prompt = Piece(len(ends), 0, [7] * 5000)  # attends alone in any case
    assert far_slots([*decodes, prompt]) == far


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt_oss"])
def test_one_that_is_far_is_answered_like_the_others(model_type: str) -> None:
    """A long sequence that attends alone, in a slot between those of short ones, changes nobody's answer, nor its own."""
    model = tiny_model(model_type)
    numbers = random.Random(7)
    fed = [[numbers.randrange(VOCABULARY) for _ in range(240 if slot == 3 else 9)] for slot in range(9)]
    alone = [in_chunks(StepRunner(model, KvCache(1, 256)), 0, tokens) for tokens in fed]
    runner = StepRunner(model, KvCache(9, 256))
    for slot, tokens in enumerate(fed):
        in_chunks(runner, slot, tokens[:-1], size=64)
    decodes = [Piece(slot, len(tokens) - 1, tokens[-1:]) for slot, tokens in enumerate(fed)]
    assert far_slots(decodes) == {3}
    assert_agree(runner.run(decodes), torch.stack(alone))
