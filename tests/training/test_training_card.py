"""The model card holds what a reader needs, and can be written as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.training.conftest import GIVEN_EPOCHS

from maas.training.card import loss_curve
from maas.training.fitting import Curve
from maas.training.recipe import Trained, TrainingOptions, find_recipe, recipes

PARTS = {
    "recipe", "family", "summary", "data", "split", "preprocessing", "model", "training", "metrics", "baselines",
    "meaning", "versions", "duration_seconds",
}  # fmt: skip


@pytest.mark.parametrize("name", recipes())
def test_card_is_complete(trained: Callable[[str], Trained], name):
    """Every card has every part, and JSON gives it back unchanged."""
    card = trained(name).card
    assert set(card) == PARTS
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["recipe"] == name
    assert card["data"].keys() == {"name", "source", "rows", "features", "target"}
    assert {"python", "torch", "numpy"} < set(card["versions"])
    assert {"scikit-learn", "statsmodels"} & set(card["versions"])
    assert card["model"]["parameters"] == sum(p.numel() for p in trained(name).module.parameters())
    assert card["duration_seconds"] >= 0
    assert card["baselines"]


@pytest.mark.parametrize("name", recipes())
def test_card_explains_outputs_and_metrics(trained: Callable[[str], Trained], name):
    """What an output or a metric means is said in words, and on which rows it was measured."""
    result = trained(name)
    assert set(result.outputs) <= set(result.card["meaning"])
    assert result.card["metrics"]["measured_on"]
    numbers = {key for key, value in result.card["metrics"].items() if isinstance(value, float)}
    assert numbers
    assert numbers <= set(result.card["meaning"])


CHOOSING = [name for name in recipes() if name != "longley" and name not in GIVEN_EPOCHS]


@pytest.mark.parametrize("name", CHOOSING)
def test_card_counts_the_rows_of_the_split(trained: Callable[[str], Trained], name):
    """A fifth of the rows is held out and a fifth of the others chooses the epochs, within rounding."""
    split = trained(name).card["split"]
    assert split["held_out_rows"] / (split["held_out_rows"] + split["training_rows"]) == pytest.approx(
        0.2, abs=0.03
    )
    assert split["of_which_validation_rows"] / split["training_rows"] == pytest.approx(0.2, abs=0.035)


@pytest.mark.parametrize("name", CHOOSING)
def test_card_shows_how_the_epochs_were_chosen(trained: Callable[[str], Trained], name):
    """The chosen number is where the validation curve is lowest, and the final run is that long."""
    training = trained(name).card["training"]
    choice = training["loss_curve"]["choice_of_epochs"]
    lowest = choice["validation"][choice["epoch"].index(training["epochs"])]
    assert lowest == min(choice["validation"])
    assert training["loss_curve"]["training"]["epoch"][-1] == training["epochs"]
    assert training["epochs_chosen_by"] == "lowest loss on the validation rows"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accuracy"), [("digits-cnn", 0.985), ("digits-transformer", 0.97)])
def test_what_takes_long_chooses_its_epochs_too(name, accuracy):
    """The cards of the networks on digits are those of the others, and they reach their marks by themselves."""
    result = find_recipe(name).train(TrainingOptions(seed=0))
    test_card_counts_the_rows_of_the_split(lambda _: result, name)
    test_card_shows_how_the_epochs_were_chosen(lambda _: result, name)
    assert result.card["metrics"]["accuracy"] >= accuracy


def test_card_says_when_the_epochs_were_given():
    """With a given number of epochs nothing is chosen, and just so many are run."""
    card = find_recipe("diabetes").train(TrainingOptions(epochs=2)).card
    assert card["training"]["epochs"] == 2
    assert card["training"]["epochs_chosen_by"] == "the options"
    assert card["training"]["loss_curve"].keys() == {"training"}


def test_long_curves_are_thinned_and_keep_both_ends():
    """A curve in a card has at most a hundred points, from the first epoch to the last."""
    losses = [1 / (1 + epoch) for epoch in range(1234)]
    curve = loss_curve(Curve(losses, losses))
    assert len(curve["epoch"]) == len(curve["training"]) == len(curve["validation"]) == 100
    assert (curve["epoch"][0], curve["epoch"][-1]) == (1, 1234)
    assert curve["training"][-1] == float(f"{losses[-1]:.4g}")


def test_curve_of_one_epoch_has_one_point():
    """The shortest run has a curve too."""
    assert loss_curve(Curve([0.25], [])) == {"epoch": [1], "training": [0.25]}
