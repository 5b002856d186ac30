"""The soak in its short forms; `make soak` is the long one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.soak.footprint import Footprint
from benchmarks.soak.report import Report
from benchmarks.soak.run import soak

REST = Footprint(gateway=50_000, others=90_000, descriptors=30, threads=3, processes=5, slabs=32, tasks=20)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_grows_under_mixed_traffic_with_faults(seconds: int, tmp_path: Path) -> None:
    """Answers, errors, leavers, deadlines, kills, reloads, loads and unloads; at rest nothing is more than it was, and only
    those who asked for trouble had any."""
    report = soak(tmp_path, seconds)
    for outcome in ("call double: 200", "raise: 500", "left", "killed", "reloaded", "load: 200"):
        assert report.outcomes[outcome] > 0, outcome
    assert report.failures() == [], str(report)


def rising(slope: float, minutes: float) -> Report:
    """A report whose memory rose by `slope` MB a minute under traffic, and came down again."""
    samples = [
        (60 * minutes * i / 100, replace(REST, gateway=50_000 + round(slope * 1024 * minutes * i / 100)))
        for i in range(101)
    ]
    return Report(REST, REST, samples, {})


@pytest.mark.parametrize(("slope", "is_found"), [(0.4, False), (0.6, True)])
def test_soak_finds_a_leak_of_memory(slope: float, is_found: bool) -> None:
    """Over ten minutes and more a slope over half a megabyte a minute does not pass."""
    report = rising(slope, minutes=20)
    assert report.slope == pytest.approx(slope, rel=0.01)
    assert bool(report.failures()) == is_found


@pytest.mark.parametrize("name", REST.counts())
def test_soak_finds_one_more_of_what_is_counted(name: str) -> None:
    """One descriptor, process, slab or task more at rest does not pass, nor threads beyond those of the loop's executor."""
    more = 64 if name == "threads" else 1
    report = replace(rising(0.0, 1.0), after=replace(REST, **{name: getattr(REST, name) + more}))
    assert [name in failure for failure in report.failures()] == [True]
