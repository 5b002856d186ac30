"""Figures held against marks, and the best of several rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, what it must be, and whether it is."""

    what: str
    value: str
    mark: str
    is_met: bool


def at_most(what: str, value: float, mark: float, unit: str = "") -> Check:
    """NaN, which is what is measured of nothing, meets no mark."""
    return Check(what, _figure(value, unit), f"≤ {_figure(mark, unit)}", value <= mark)


def at_least(what: str, value: float, mark: float, unit: str = "") -> Check:
    return Check(what, _figure(value, unit), f"≥ {_figure(mark, unit)}", value >= mark)


def within(what: str, value: float, low: float, high: float, unit: str = "") -> Check:
    return Check(what, _figure(value, unit), f"{low:g}–{_figure(high, unit)}", low <= value <= high)


def exactly(what: str, value: object, mark: object) -> Check:
    return Check(what, str(value), str(mark), value == mark)


def for_the_record(what: str, value: float | str, unit: str = "") -> Check:
    """What is told and not judged."""
    return Check(what, value if isinstance(value, str) else _figure(value, unit), "", True)


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
        return not self.error and all(check.is_met for check in self.checks)


@dataclass(slots=True)
class Verdict:
    """What became of a scenario over its rounds; `not_applicable` says why it was not run."""

    scenario: str
    rounds: list[Round] = field(default_factory=list)
    not_applicable: str = ""
    seconds: float = 0.0

    @property
    def is_passed(self) -> bool:
        return bool(self.not_applicable) or any(each.is_passed for each in self.rounds)

    @property
    def best(self) -> Round:
        """The round that passed; else the one that met the most marks."""
        return max(self.rounds, key=lambda each: (each.is_passed, sum(check.is_met for check in each.checks)))


def best_of(scenario: str, run: Callable[[], Round], rounds: int, may_go_on: Callable[[], bool]) -> Verdict:
    """Run until a round passes, `rounds` are over, or there is no time for another."""
    verdict = Verdict(scenario)
    while len(verdict.rounds) < rounds and not any(each.is_passed for each in verdict.rounds):
        if verdict.rounds and not may_go_on():
            break
        verdict.rounds.append(run())
    return verdict
