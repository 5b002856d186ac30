"""The pace: what is measured of batches, and what is taken for those that come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from maas.batching.pace import Pace
from maas.types import CurvePoint


def test_nothing_is_claimed_before_something_was_seen() -> None:
    """Ignorance admits rather than refuses."""
    assert Pace().seconds_for(8) == Pace().turn_of(8) == 0.0


def test_sizes_that_were_not_seen_are_judged_by_those_around_them() -> None:
    """Between two that were, in proportion; beyond the largest, as that."""
    pace = Pace()
    pace.observe(2, 0.01)
    pace.observe(32, 0.07)
    assert (pace.seconds_for(1), pace.seconds_for(17), pace.seconds_for(500)) == (0.01, 0.04, 0.07)


def test_a_turn_is_a_batch_and_what_passes_until_the_next() -> None:
    """Answers that leave and a busy loop are time too, for all that wait: it comes to each batch, of whatever size."""
    pace = Pace()
    pace.observe(32, 0.05)
    pace.observe(1, 0.01)
    for _ in range(40):
        pace.observe_turn(32, 0.06)
    assert pace.turn_of(32) == pytest.approx(0.06, rel=1e-3)
    assert pace.turn_of(1) == pytest.approx(0.02, rel=1e-2)
    assert pace.seconds_for(32) == 0.05


def test_one_long_turn_is_no_measure_of_others() -> None:
    """A batch that was run in pieces, or whose process died, adds at most what a batch takes."""
    pace = Pace()
    pace.observe(8, 0.1)
    pace.observe_turn(8, 60.0)
    assert pace.turn_of(8) <= 0.2
    pace.observe_turn(8, 0.05)
    assert pace.turn_of(8) >= 0.1


def curve(
    seconds: Callable[[int, int], float], lengths: Sequence[int] = (1,), most: int = 32
) -> list[CurvePoint]:
    rows = [1 << step for step in range(most.bit_length())]
    return [CurvePoint(n, length, seconds(n, length)) for length in lengths for n in rows]


def test_warm_up_is_known_before_any_batch_has_run() -> None:
    """What the model's process measured counts from the start, and what it does not see, the way there and back, with it."""
    pace = Pace()
    pace.learn(curve(lambda rows, _: 0.01 + 0.001 * rows))
    assert pace.seconds_for(1) == pytest.approx(0.011, abs=0.001)
    assert pace.turn_of(24) == pytest.approx(0.034, abs=0.001)
    assert pace.sizes().limit == 32


def test_a_curve_does_not_undo_what_batches_have_shown() -> None:
    """An instance that is started again, on a busy machine, says nothing new."""
    pace = Pace()
    pace.observe(1, 0.01)
    pace.learn(curve(lambda rows, _: 5.0 * rows))
    assert pace.seconds_for(1) == 0.01


def test_batches_correct_what_warm_up_has_measured() -> None:
    """The first batch counts as much as the measurement, and twenty leave nothing of it."""
    pace = Pace()
    pace.learn(curve(lambda rows, _: 1.0 * rows))
    pace.observe(8, 4.0)
    assert pace.seconds_for(8) == pytest.approx(6.0, rel=1e-3)
    for _ in range(20):
        pace.observe(8, 4.0)
    assert pace.seconds_for(8) == pytest.approx(4.0, rel=0.01)
    assert pace.seconds_for(32) == pytest.approx(32.0, rel=1e-3)


def test_lengths_between_those_that_were_measured_are_in_proportion() -> None:
    """So are those beyond them; one that comes to be seen begins as its neighbours have it, and is corrected."""
    pace = Pace()
    pace.learn(curve(lambda rows, length: 0.01 * rows * length, lengths=(8, 32)))
    assert pace.seconds_for(4, 20) == pytest.approx(0.8, rel=1e-2)
    assert pace.seconds_for(4, 64) == pytest.approx(2.56, rel=1e-2)
    assert pace.seconds_for(4, 2) == pytest.approx(0.08, rel=1e-2)
    for _ in range(30):
        pace.observe(4, 1.6, 16)  # twice what was to be expected
    assert pace.seconds_for(4, 16) == pytest.approx(1.28, rel=0.3)
    assert pace.seconds_for(4, 8) == pytest.approx(0.32, rel=1e-2)
    assert pace.seconds_for(4, 64) == pytest.approx(2.56, rel=1e-2)


def test_a_cut_that_was_measured_wrongly_is_found_out() -> None:
    """A model that was warmed up while others were, so that large batches looked slow, is given larger ones now and then,
    and by what those take the cut moves to where it belongs."""

    def seconds(rows: int) -> float:
        return 0.010 + 0.001 * rows

    pace = Pace()
    pace.learn(curve(lambda rows, _: seconds(rows) * (1 if rows <= 4 else 8)))
    assert pace.sizes().limit == 4
    for _ in range(2000):
        rows = pace.sizes().limit
        pace.observe(rows, seconds(rows))
    assert pace.sizes().limit == 32


def test_a_cut_that_is_right_stays_under_load() -> None:
    """Larger batches are tried one time in thirty-two only, and do not come to stay."""
    pace = Pace()
    pace.learn(curve(lambda rows, _: 0.01 * max(rows, 4)))
    sizes = []
    for _ in range(1000):
        sizes.append(pace.sizes().limit)
        pace.observe(sizes[-1], 0.01 * max(sizes[-1], 4) + 0.0003)
    assert set(sizes) == {4, 8}
    assert sizes.count(8) <= 1000 / 32 + 1


def test_a_cost_bounds_what_is_judged() -> None:
    """Where a batch may cost so much, lengths of which only few rows were measured are worth no more, and cost no less, than
    they are: nothing is made of row counts that no batch can have."""

    def seconds(rows: int, length: int) -> float:
        return 0.001 + rows * length / 16000

    pace = Pace(lambda elements: min(32, 128 // elements))
    pace.learn(
        [point for point in curve(seconds, lengths=(8, 32, 128)) if point.rows * point.elements <= 128]
    )
    assert [pace.sizes(length).limit for length in (8, 32, 128)] == [16, 4, 1]
    for length in (8, 32):
        assert pace.sizes(length).per_row == pytest.approx(length / 16000, rel=0.3)


def test_a_length_of_which_one_row_was_measured_is_work_in_proportion() -> None:
    """A slow model's warm-up ends before larger batches of the longest: padding up to that is not free for it."""
    pace = Pace()
    pace.learn([*curve(lambda rows, _: 0.01 * rows, lengths=(8,)), CurvePoint(1, 128, 0.16)])
    assert pace.sizes(128).per_row == pytest.approx(0.16, rel=0.05)
