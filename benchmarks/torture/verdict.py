"""Figures held against marks, and the best of several rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, what it must be, and how many times over that it is: up to 1 the mark is met. What is counted is over
    it by a factor or not at all; what is measured, which has a unit, depends on the machine too."""

    what: str
    value: str
    mark: str
    excess: float

    @property
    def is_met(self) -> bool:
        return self.excess <= 1


def at_most(what: str, value: float, mark: float, unit: str = "") -> Check:
    """NaN, which is what is measured of nothing, meets no mark."""
    excess = _ratio(value, mark) if unit else _all_or_nothing(value <= mark)
    return Check(what, _figure(value, unit), f"≤ {_figure(mark, unit)}", excess)


def at_least(what: str, value: float, mark: float, unit: str = "") -> Check:
    excess = _ratio(mark, value) if unit else _all_or_nothing(value >= mark)
    return Check(what, _figure(value, unit), f"≥ {_figure(mark, unit)}", excess)


def within(what: str, value: float, low: float, high: float, unit: str = "") -> Check:
    excess = max(_ratio(value, high), _ratio(low, value))
    return Check(what, _figure(value, unit), f"{low:g}–{_figure(high, unit)}", excess)


def exactly(what: str, value: object, mark: object) -> Check:
    return Check(what, str(value), str(mark), _all_or_nothing(value == mark))


def for_the_record(what: str, value: float | str, unit: str = "") -> Check:
    """What is told and not judged."""
    return Check(what, value if isinstance(value, str) else _figure(value, unit), "", 0.0)


def _ratio(value: float, mark: float) -> float:
    if value <= mark:
        return 1.0
    return value / mark if mark > 0 and math.isfinite(value) else math.inf


def _all_or_nothing(is_met: bool) -> float:
    return 1.0 if is_met else math.inf


def _figure(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "nothing"
    digits = f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a scenario: its checks, or the error that ended it."""

    checks: Sequence[Check] = ()
    error: str = ""
    load_average: float = 0.0

    @property
    def is_passed(self) -> bool:
        return self.is_within(1)

    def is_within(self, tolerance: float) -> bool:
        """Whether no mark is missed by more than this factor."""
        return not self.error and all(check.excess <= tolerance for check in self.checks)


@dataclass(slots=True)
class Verdict:
    """What became of a scenario over its rounds, of which one must be within `tolerance`; `not_applicable` says why it was
    not run."""

    scenario: str
    rounds: list[Round] = field(default_factory=list)
    not_applicable: str = ""
    seconds: float = 0.0
    tolerance: float = 1.0

    @property
    def is_passed(self) -> bool:
        return bool(self.not_applicable) or any(each.is_within(self.tolerance) for each in self.rounds)

    @property
    def best(self) -> Round:
        """The round that passed; else one within the tolerance; else the one that met the most marks."""

        def rank(each: Round) -> tuple[bool, bool, int]:
            met = sum(check.is_met for check in each.checks)
            return each.is_passed, each.is_within(self.tolerance), met

        return max(self.rounds, key=rank)


def best_of(
    scenario: str,
    run: Callable[[], Round],
    rounds: int,
    may_go_on: Callable[[], bool],
    tolerance: float = 1.0,
) -> Verdict:
    """Run until a round is within the tolerance, `rounds` are over, or there is no time for another."""
    verdict = Verdict(scenario, tolerance=tolerance)
    while len(verdict.rounds) < rounds and not verdict.is_passed:
        if verdict.rounds and not may_go_on():
            break
        verdict.rounds.append(run())
    return verdict
