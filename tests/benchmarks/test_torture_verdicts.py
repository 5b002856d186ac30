"""Marks, rounds and the table; and one scenario for real, so that the suite itself is known to run."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.torture.__main__ import SCENARIOS
from benchmarks.torture.adapters.choice import ADAPTERS
from benchmarks.torture.report import table
from benchmarks.torture.verdict import (
    Check,
    Round,
    Verdict,
    at_least,
    at_most,
    best_of,
    exactly,
    within,
)

ROOT = Path(__file__).parents[2]
MET, MISSED = at_most("x", 1, 2), at_most("x", 3, 2)


def rounds(*outcomes: Round) -> Iterator[Round]:
    yield from outcomes


@pytest.mark.parametrize(
    ("check", "is_met"),
    [
        (at_most("p50", 85.0, 85, "ms"), True),
        (at_most("p50", 85.1, 85, "ms"), False),
        (at_most("p50", float("nan"), 85, "ms"), False),
        (at_least("goodput", 90, 90, "%"), True),
        (at_least("goodput", 89.9, 90, "%"), False),
        (within("batch", 8, 8, 13), True),
        (within("batch", 13.5, 8, 13), False),
        (exactly("failed", 0, 0), True),
        (exactly("failed", 1, 0), False),
    ],
)
def test_a_figure_is_held_against_its_mark(check: Check, is_met: bool) -> None:
    """At the mark is within it; what was not measured meets none."""
    assert check.is_met is is_met


def test_a_scenario_that_passes_is_not_repeated() -> None:
    """The first good round is enough."""
    outcomes = rounds(Round([MISSED]), Round([MET]), Round([MISSED]))
    verdict = best_of("x", lambda: next(outcomes), 3, lambda: True)
    assert verdict.is_passed
    assert len(verdict.rounds) == 2
    assert verdict.best.checks == [MET]


def test_a_scenario_fails_when_every_round_did() -> None:
    """The round that met most is shown, and no mark is met by taking one from each."""
    outcomes = rounds(Round([MISSED, MET]), Round([MET, MISSED, MET]), Round(error="gone"))
    verdict = best_of("x", lambda: next(outcomes), 3, lambda: True)
    assert not verdict.is_passed
    assert len(verdict.best.checks) == 3


def test_no_round_is_begun_when_time_is_over() -> None:
    """The first is always run; the suite as a whole is bounded."""
    verdict = best_of("x", lambda: Round([MISSED]), 3, lambda: False)
    assert len(verdict.rounds) == 1


def test_a_round_without_checks_but_an_error_has_failed() -> None:
    """Nothing measured is nothing shown."""
    assert not Round(error="TimeoutError: …").is_passed


def test_table_lines_up_and_tells_everything() -> None:
    """Figures with their marks in the same order; errors and what was not run say why."""
    verdicts = [
        Verdict("good", [Round([at_most("p50", 80, 85, "ms"), exactly("lost", 0, 0)], load_average=1.25)]),
        Verdict("bad", [Round(error="TimeoutError: too long")]),
        Verdict("other", not_applicable="has no deadlines"),
    ]
    lines = table(verdicts).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert re.search(r"\| p50 80 ms; lost 0 +\| ≤ 85 ms; 0 +\| passed +\| 1 +\| 1\.2 ", lines[2])
    assert "TimeoutError: too long" in lines[3]
    assert "FAILED" in lines[3]
    assert re.search(r"has no deadlines +\| +\| not applicable", lines[4])


def test_scenarios_have_names_of_their_own_and_say_what_they_are() -> None:
    """Each can be asked for alone, and each is described in the suite's page."""
    names = [scenario.name for scenario in SCENARIOS]
    page = (ROOT / "benchmarks/torture/README.md").read_text()
    assert len(set(names)) == len(names)
    assert [name for name in names if f"`{name}`" not in page] == []
    assert all(scenario.what for scenario in SCENARIOS)


def test_what_an_adapter_lacks_are_scenarios() -> None:
    """A scenario that is renamed is renamed there too."""
    names = {scenario.name for scenario in SCENARIOS}
    assert all(set(adapter().lacks()) <= names for adapter in ADAPTERS.values())


def test_peers_are_pinned_to_their_last_dependency() -> None:
    """A comparison can be repeated: each line of a peer's file is one version."""
    for peer in set(ADAPTERS) - {"maas"}:
        lines = (ROOT / f"benchmarks/torture/peers/{peer}.txt").read_text().splitlines()
        pinned = [line for line in lines if not line.startswith("#")]
        assert any(line.startswith(f"{peer}==") for line in pinned)
        assert [
            line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)
        ] == []


def test_a_scenario_runs_from_the_command_line(tmp_path: Path) -> None:
    """`--only` runs it against a real server, prints the table, writes the figures, and exits with 0."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.torture", "--only", "bad-row", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| bad-row  | answered 7; bad one 500 |" in done.stdout
    (scenario,) = json.loads(file.read_text())["scenarios"]
    assert scenario["passed"]


@pytest.mark.parametrize(
    ("check", "is_tolerated"),
    [
        (at_most("p99", 290, 100, "ms"), True),
        (at_most("p99", 310, 100, "ms"), False),
        (at_most("p99", math.nan, 100, "ms"), False),
        (at_least("goodput", 31, 90, "%"), True),
        (at_least("goodput", 29, 90, "%"), False),
        (at_least("goodput", 0, 90, "%"), False),
        (at_most("crashes", 3, 2), False),
        (at_least("requests", 2, 3), False),
        (exactly("lost", 1, 0), False),
    ],
)
def test_tolerance_is_for_what_is_measured_and_not_for_what_is_counted(
    check: Check, is_tolerated: bool
) -> None:
    """A figure with a unit may miss its mark by the factor; a count may not at all."""
    round_ = Round([check])
    assert not round_.is_passed
    assert round_.is_within(3) is is_tolerated
    assert best_of("x", lambda: round_, 3, lambda: True, tolerance=3).is_passed is is_tolerated
