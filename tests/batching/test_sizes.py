"""How large a batch should be: as large as throughput rises, whatever a measurement that is off says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.batching.sizes import Sizes, judge, unmeasured

ROWS = (1, 2, 4, 8, 16, 32)


def limit(*seconds: float, most: int = 32) -> int:
    times = dict(zip(ROWS, seconds, strict=False))
    return judge(lambda rows: times.get(rows, seconds[-1]), ROWS[: len(seconds)], most).limit


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1, 1, 1, 1, 1, 1], 32),  # as long for 32 rows as for one
        ([1, 2, 4, 8, 16, 32], 1),  # each row takes as long as it takes alone
        ([1, 1.1, 1.3, 2.6, 5.2, 10.4], 4),
        ([1, 1.9, 3.6, 6.8, 13, 24.8], 32),  # five per cent for each doubling are still a rise
        ([1, 1, 1, 1.2, 2.8, 6], 8),  # it even falls again, as where caches overflow
        ([1, 2, 4, 8, 16, 20], 32),  # flat at first, and then it rises after all
        ([1, 2, 4], 1),  # a slow model of which no larger batch was measured
        ([1, 2], 32),  # one further size is too few to tell
        ([1], 32),
    ],
)
def test_a_batch_is_cut_where_throughput_stops_rising(seconds: list[float], expected: int) -> None:
    """Beyond that it would only make its requests wait for each other."""
    assert limit(*seconds) == expected


def test_a_last_size_that_clearly_does_worse_is_not_used() -> None:
    """Though no further one shows it: a convolution over 32 images took 14 ms, over 16 of them 4.9. A little worse is noise."""
    assert limit(0.91, 1.28, 1.73, 2.87, 4.89, 14.0) == 16
    assert limit(0.91, 1.28, 1.73, 2.87, 4.89, 10.0) == 32


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2, 10])
def test_one_wrong_measurement_makes_no_cut(place: int, factor: float) -> None:
    """Where throughput rises throughout, one size that looked faster or slower than it is does not stop it short of the
    last sizes."""
    seconds = [1 + 0.1 * rows for rows in ROWS]
    seconds[place] *= factor
    assert limit(*seconds) >= 16


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("factor", [0.5, 2])
def test_one_wrong_measurement_moves_no_cut_down(place: int, factor: float) -> None:
    """Where it rises up to four rows, a batch of four is never given up for it."""
    seconds = [1, 1.1, 1.3, 2.6, 5.2, 10.4]
    seconds[place] *= factor
    assert limit(*seconds) >= 2


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=6), st.integers(1, 64))
def test_what_is_judged_is_sound(seconds: list[float], most: int) -> None:
    """Whatever was measured, a batch has a row at least and `most` at most, and no row costs less than nothing."""
    times = dict(zip(ROWS, seconds, strict=False))
    sizes = judge(lambda rows: times.get(rows, seconds[-1]), ROWS[: len(seconds)], most)
    assert 1 <= sizes.limit <= most
    assert sizes.overhead >= 0
    assert sizes.per_row >= 0


def test_the_line_goes_through_one_row_and_the_limit() -> None:
    """A batch of n rows takes `overhead` + n × `per_row`."""
    sizes = judge(lambda rows: 3.0 + 0.5 * rows, ROWS, 32)
    assert (sizes.limit, sizes.overhead, sizes.per_row) == (32, pytest.approx(3.0), pytest.approx(0.5))


def test_nothing_measured_is_work_in_proportion() -> None:
    """Twice as long is twice the work, and a batch is worth one row."""
    assert unmeasured(64) == Sizes(1 << 16, 64.0, 64.0)
