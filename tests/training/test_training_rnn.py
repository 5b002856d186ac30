"""The recurrent network on sunspots."""

from __future__ import annotations

import pytest
import torch

from maas.training.rnn import load_sunspots, windows


def test_sunspots_reach_their_mark(trained):
    """One-step forecasts of the held-out years err by at most 22 sunspots, root mean square."""
    assert trained("sunspots-lstm").card["metrics"]["rmse"] <= 22


def test_baselines_are_those_of_the_literature(trained):
    """Repeating the last year errs by 33.3 and an autoregression of order nine by 19.4; the card has both."""
    baselines = trained("sunspots-lstm").card["baselines"]
    assert baselines["naive (last year repeated)"]["rmse"] == pytest.approx(33.3, abs=0.05)
    assert baselines["AR(9)"]["rmse"] == pytest.approx(19.4, abs=0.05)


def test_every_window_length_in_bounds_is_forecast(trained):
    """From the shortest window to the longest, forecasts of the held-out years are far better than naive."""
    result, activity = trained("sunspots-lstm"), load_sunspots()
    bounds = result.bounds["time"]
    for length in range(bounds.min, bounds.max + 1):
        part = windows(activity, 247, len(activity), length)
        with torch.inference_mode():
            forecast = result.module(part.inputs)
        assert forecast.shape == (62,)
        assert (forecast - part.targets[:, -1]).square().mean().sqrt() <= 25


def test_windows_end_just_before_the_year_they_forecast():
    """Each row holds consecutive years, and beside each year the one after it."""
    part = windows(torch.arange(10.0), 4, 6, length=3)
    assert part.inputs.tolist() == [[1, 2, 3], [2, 3, 4]]
    assert part.targets.tolist() == [[2, 3, 4], [3, 4, 5]]
