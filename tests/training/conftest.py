"""Each recipe is trained once for all tests: they look at one result from many sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from maas.training.recipe import Trained, TrainingOptions, find_recipe


@pytest.fixture(scope="session")
def trained() -> Callable[[str], Trained]:
    """The result of a recipe at seed 0, with the epochs that it chooses itself."""
    return cache(lambda name: find_recipe(name).train(TrainingOptions(seed=0)))
