"""A model in steps over slots answers what `generate` answers to each prompt alone."""

from __future__ import annotations

import random

import pytest
from tests.runtimes.transformers.driver import greedy_by_generate, greedy_in_steps
from tests.runtimes.transformers.models import SUPPORTED, VOCABULARY, tiny_model

from maas.runtimes.transformers.cache import KvCache
from maas.runtimes.transformers.step import StepRunner

LENGTHS = (3, 61, 17, 40, 1, 29)
LONGEST = (20, 8, 14, 24, 11, 17)


def prompts() -> list[list[int]]:
    numbers = random.Random(5)
    return [[numbers.randrange(3, VOCABULARY) for _ in range(length)] for length in LENGTHS]


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_greedy_answers_are_those_of_generate(model_type: str) -> None:
    """Six requests over four slots, prompts in chunks: each has, token by token, the answer that it has alone."""
    model = tiny_model(model_type)
    alone = [greedy_by_generate(model, p, n) for p, n in zip(prompts(), LONGEST, strict=True)]
    together = greedy_in_steps(StepRunner(model, KvCache(4, 96)), prompts(), LONGEST, budget=24)
    assert together == alone
    assert len({token for answer in alone for token in answer}) > 20, "answers that repeat prove little"
