"""Linear regression against certified and exact solutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maas.training.linear_regression import LONGLEY_FEATURES, load_longley


def test_longley_agrees_with_the_certified_values(trained):
    """Every coefficient is the one that NIST certifies, to 1e-6 relative.

    The values are those of statsmodels' own tests, from https://www.itl.nist.gov/div898/strd/lls/data/Longley.shtml.
    """
    from statsmodels.regression.tests.results.results_regression import Longley

    model = trained("longley").card["model"]
    ours = [*(model["coefficients"][name] for name in LONGLEY_FEATURES), model["intercept"]]
    np.testing.assert_allclose(ours, Longley().params, rtol=1e-6)


def test_longley_answers_are_those_of_the_certified_coefficients(trained):
    """The published module, given raw series, computes what the certified equation does."""
    from statsmodels.regression.tests.results.results_regression import Longley

    *slopes, intercept = Longley().params
    features = load_longley().inputs
    expected = features @ torch.tensor(slopes, dtype=torch.float64) + intercept
    module = trained("longley").module
    with torch.inference_mode():
        torch.testing.assert_close(module(features), expected, rtol=1e-9, atol=0)


def test_longley_is_double_precision_throughout(trained):
    """Inputs, constants and answers are float64: the data does not survive less."""
    result = trained("longley")
    assert result.inputs == {"features": "float64[batch, 6]"}
    assert result.outputs == {"employment": "float64[batch]"}
    assert {tensor.dtype for tensor in result.module.state_dict().values()} == {torch.float64}


def test_longley_card_says_that_nothing_is_held_out(trained):
    """All 16 rows are fitted, and whoever reads the metrics is told."""
    card = trained("longley").card
    assert card["split"]["training_rows"] == card["data"]["rows"] == 16
    assert "nothing is held out" in card["split"]["method"]
    assert "fitted on" in card["metrics"]["measured_on"]


def test_diabetes_is_as_good_as_ordinary_least_squares(trained):
    """R² on held-out rows is within 0.01 of the exact solution's."""
    card = trained("diabetes").card
    assert card["metrics"]["r2"] == pytest.approx(card["baselines"]["ordinary least squares"]["r2"], abs=0.01)


def test_diabetes_takes_raw_measurements(trained):
    """An untransformed row of the data set is answered in the target's own unit."""
    from sklearn.datasets import load_diabetes

    table = load_diabetes(scaled=False)
    module = trained("diabetes").module
    with torch.inference_mode():
        answers = module(torch.from_numpy(table.data).float())
    assert answers.mean().item() == pytest.approx(table.target.mean(), rel=0.05)
