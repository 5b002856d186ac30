"""Each recipe is trained once for all tests: they look at one result from many sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from maas.training.recipe import Trained, TrainingOptions, find_recipe

GIVEN_EPOCHS = {"digits-cnn": 6, "digits-transformer": 12}
"""Of the recipes that take long to choose for themselves; enough to reach their marks."""


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Trained]:
    """The result of a recipe at seed 0, with the epochs that it chooses itself or those that are given above."""
    return cache(lambda name: find_recipe(name).train(TrainingOptions(seed=0, epochs=GIVEN_EPOCHS.get(name))))
