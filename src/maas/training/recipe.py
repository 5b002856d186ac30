"""The contract between a recipe and who runs it, and the table of recipes by name.

A recipe turns options into a `Trained`: a module that takes RAW features, with everything a publisher needs to
know about it. It publishes nothing itself. This file imports neither torch nor any data package, so that the
names, families and summaries can be listed at once; a recipe's own file is imported when it trains.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from maas.errors import InvalidRequest
from maas.types import Bounds, clip

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What a person may choose about a training run.

    `epochs`: exactly so many passes over the training split; None lets the recipe choose the number on a
    validation part of it. `seed` changes the initial weights, the order of the rows and the augmentation, never
    the split, so that the metrics of two seeds are comparable. A model that is solved in closed form has neither.
    """

    epochs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise InvalidRequest(f"epochs is {self.epochs}; it must be at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequest(f"seed is {self.seed}; it must be between 0 and {MAX_SEED}")


class Progress(Protocol):
    """Hears that `step` of `of` steps are done in the phase that `message` names.

    A run has one or two phases, each with its own `of`; the message stays the same through a phase.
    """

    def __call__(self, step: int, of: int, message: str) -> None: ...


def silent(step: int, of: int, message: str) -> None:
    """The `Progress` of a run that nobody watches."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and what its publisher must know.

    `module` is in evaluation mode on the CPU; its `forward` takes the declared inputs positionally and returns
    one tensor, or a tuple in the order of `outputs`. `type(module)(**arguments)` followed by `load_state_dict`
    rebuilds it, also on the meta device: every constant of the preprocessing is a buffer. `golden` holds sample
    requests by input name, with their batch axis, of rows that the model was not trained on where there are any.
    """

    module: torch.nn.Module
    arguments: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    golden: Sequence[Mapping[str, torch.Tensor]]
    card: Mapping[str, Any]
    bounds: Mapping[str, Bounds]


Train = Callable[[TrainingOptions, Progress], Trained]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to train one model. `function` is `module:name` of a `Train`, imported when it is called."""

    name: str
    family: str
    summary: str
    function: str

    def train(self, options: TrainingOptions, progress: Progress = silent) -> Trained:
        """Train; the same options give the same weights and metrics on one machine, however many cores it has."""
        from maas.training.arithmetic import reproducible_arithmetic

        train = self._load()
        started = time.perf_counter()
        with reproducible_arithmetic():
            trained = train(options, progress)
        return replace(trained, card=self._signed(trained.card, time.perf_counter() - started))

    def _load(self) -> Train:
        module, _, name = self.function.partition(":")
        return cast(Train, getattr(import_module(module), name))

    def _signed(self, card: Mapping[str, Any], duration: float) -> Mapping[str, Any]:
        identity = {"recipe": self.name, "family": self.family, "summary": self.summary}
        return {**identity, **card, "duration_seconds": round(duration, 2)}


_RECIPES = (
    Recipe(
        "longley",
        "linear regression",
        "US employment from six economic series, solved by QR in double precision",
        "maas.training.linear_regression:train_longley",
    ),
    Recipe(
        "diabetes",
        "linear regression",
        "disease progression after one year from ten measurements of a patient",
        "maas.training.linear_regression:train_diabetes",
    ),
    Recipe(
        "breast-cancer",
        "logistic regression",
        "probability that a breast mass is malignant from thirty measurements of its cells",
        "maas.training.logistic_regression:train_breast_cancer",
    ),
    Recipe(
        "digits-cnn",
        "convolutional network",
        "which digit an 8×8 image shows, by convolutions",
        "maas.training.cnn:train_digits",
    ),
    Recipe(
        "sunspots-lstm",
        "recurrent network",
        "next year's sunspot activity from a window of past years of any length in bounds",
        "maas.training.rnn:train_sunspots",
    ),
    Recipe(
        "digits-transformer",
        "transformer encoder",
        "which digit an 8×8 image shows, by attention between its patches",
        "maas.training.transformer:train_digits",
    ),
)


def recipes() -> Mapping[str, Recipe]:
    """Every recipe by name, from the simplest model to the largest."""
    return {recipe.name: recipe for recipe in _RECIPES}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, else `InvalidRequest` with the names there are."""
    known = recipes()
    if name not in known:
        raise InvalidRequest(f"no recipe {clip(name)!r}; known are {', '.join(known)}")
    return known[name]
