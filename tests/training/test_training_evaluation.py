"""A recipe's metrics from answers alone: those of its card, whoever gave the answers."""

from __future__ import annotations

import pytest
import torch

from maas.training.evaluation import held_out_of
from maas.training.recipe import TrainingOptions, find_recipe, recipes
from maas.types import Signature


@pytest.mark.parametrize("name", recipes())
def test_the_answers_of_the_model_itself_give_its_card_s_metrics(name: str) -> None:
    """Every recipe's held-out rows are found by its card, and scored as when it was trained."""
    trained = find_recipe(name).train(TrainingOptions(epochs=1))
    signature = Signature.parse(trained.inputs, trained.outputs, trained.bounds)
    held_out = held_out_of(trained.card, signature)
    assert held_out is not None
    output = signature.outputs[0].name
    with torch.no_grad():
        answers = [
            {output: trained.module(*map(torch.from_numpy, request.values())).numpy()}
            for request in held_out.inputs
        ]
    measured = trained.card["metrics"]
    found = held_out.metrics(answers)
    assert found
    assert found == pytest.approx({key: measured[key] for key in found}, rel=1e-3)


def test_a_card_of_nobody_s_recipe_has_no_held_out_rows() -> None:
    """Another's model is judged by its golden samples alone."""
    signature = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]"}, {})
    assert held_out_of({}, signature) is None
    assert held_out_of({"recipe": "unknown"}, signature) is None
