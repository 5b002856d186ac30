"""The pace: what is measured of batches, and what is taken for those that come."""

from __future__ import annotations

import pytest

from maas.batching.pace import Pace


def test_nothing_is_claimed_before_something_was_seen() -> None:
    """Ignorance admits rather than refuses."""
    assert Pace().seconds_for(8) == Pace().turn_of(8) == 0.0


def test_sizes_that_were_not_seen_are_judged_by_the_nearest() -> None:
    """In steps of powers of two."""
    pace = Pace()
    pace.observe(1, 0.01)
    pace.observe(32, 0.05)
    assert (pace.seconds_for(2), pace.seconds_for(20), pace.seconds_for(500)) == (0.01, 0.05, 0.05)


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
