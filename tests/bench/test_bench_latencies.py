"""The histogram of latencies, and when requests are due."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.bench.arrivals import poisson_arrivals
from maas.bench.latencies import Latencies

PERCENTS = (0.1, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0)


def recorded(values: list[float]) -> Latencies:
    latencies = Latencies()
    for value in values:
        latencies.record(value)
    return latencies


def nearest_rank(values: list[float], percent: float) -> float:
    return sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]


@given(st.lists(st.floats(1e-9, 8000.0), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_nearest_rank(values: list[float]) -> None:
    """Within a thousandth of the recorded value that a sorted list has there; never over the maximum."""
    latencies = recorded(values)
    for percent in PERCENTS:
        assert latencies.percentile(percent) == pytest.approx(
            nearest_rank(values, percent), rel=1e-3, abs=1e-9
        )
    assert latencies.max == max(values)
    assert latencies.count == len(values)
    assert latencies.mean == pytest.approx(sum(values) / len(values))


@given(st.lists(st.floats(1e-6, 10), max_size=50), st.lists(st.floats(1e-6, 10), min_size=1, max_size=50))
def test_histograms_of_processes_add_up(one: list[float], other: list[float]) -> None:
    """Merged after a pickle, they are what one process would have recorded."""
    merged = recorded(one)
    merged.add(pickle.loads(pickle.dumps(recorded(other))))
    together = recorded([*one, *other])
    assert [merged.percentile(p) for p in PERCENTS] == [together.percentile(p) for p in PERCENTS]
    assert (merged.count, merged.max) == (together.count, together.max)


def test_a_million_latencies_take_no_more_memory_than_a_few() -> None:
    """Recorded values are folded into counts; what waits for that is bounded."""
    latencies = Latencies()
    for _ in range(200_000):
        latencies.record(0.001)
    assert len(pickle.dumps(latencies)) < 1_000_000
    assert latencies.count == 200_000


def test_of_nothing_every_percentile_is_zero() -> None:
    """No request, no latency."""
    assert [Latencies().percentile(percent) for percent in PERCENTS] == [0.0] * len(PERCENTS)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    """Two servers that are compared are asked at the very same moments."""
    assert list(poisson_arrivals(100, 5, 7)) == list(poisson_arrivals(100, 5, 7))
    assert list(poisson_arrivals(100, 5, 7)) != list(poisson_arrivals(100, 5, 8))


def test_arrivals_are_a_poisson_process() -> None:
    """Exponential gaps, whose deviation is their mean, at the rate that was asked for."""
    arrivals = np.array(list(poisson_arrivals(1000, 20, 3)))
    gaps = np.diff(arrivals)
    assert (gaps >= 0).all()
    assert arrivals[-1] < 20
    assert abs(len(arrivals) - 20_000) < 5 * math.sqrt(20_000)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
