"""Logistic regression against scikit-learn's solver."""

from __future__ import annotations

import pytest
import torch


def test_breast_cancer_reaches_its_mark(trained):
    """Accuracy on held-out rows is at least 0.96, and log-loss within 2 % of scikit-learn's."""
    card = trained("breast-cancer").card
    reference = card["baselines"]["scikit-learn logistic regression"]
    assert card["metrics"]["accuracy"] >= 0.96
    assert card["metrics"]["log_loss"] == pytest.approx(reference["log_loss"], rel=0.02)


def test_output_is_the_probability_of_malignant(trained):
    """Masses that scikit-learn's data calls malignant, its class 0, are answered with high probabilities."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    module = trained("breast-cancer").module
    with torch.inference_mode():
        answers = module(torch.from_numpy(table.data).float())
    assert answers[torch.from_numpy(table.target) == 0].mean() > 0.9
    assert answers[torch.from_numpy(table.target) == 1].mean() < 0.1


def test_features_are_named_in_the_card(trained):
    """A caller can tell which of the thirty numbers is which."""
    features = trained("breast-cancer").card["data"]["features"]
    assert len(features) == 30
    assert features[0] == "mean radius"
