"""The soak's verdict: what was counted before and after, and how memory went in between."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import linear_regression

from benchmarks.soak.footprint import Footprint

MAX_SLOPE = 0.5  # MB a minute, of everything together
_SHORTEST_TREND = 600.0  # seconds; a shorter one is noise
_EXECUTOR_THREADS = min(
    32, (os.cpu_count() or 1) + 4
)  # that the loop's executor starts as it needs them, and keeps
_MAX_GROWTH = 12.0  # MB from rest to rest, in a form too short for a trend


@dataclass
class Report:
    """`samples` are (seconds, footprint) under traffic after the warm-up; `before` and `after` are at rest."""

    before: Footprint
    after: Footprint
    samples: Sequence[tuple[float, Footprint]]
    outcomes: dict[str, int]
    surprises: list[str] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """MB a minute of gateway, fork servers and model processes, by least squares."""
        seconds = [at for at, _ in self.samples]
        memory = [(each.gateway + each.others) / 1024 for _, each in self.samples]
        return 60 * linear_regression(seconds, memory).slope

    @property
    def growth(self) -> float:
        """MB that all of them have at rest more than before."""
        return (self.after.gateway + self.after.others - self.before.gateway - self.before.others) / 1024

    def failures(self) -> list[str]:
        """What must not be; empty where the soak passed."""
        found = [f"surprise: {surprise}" for surprise in self.surprises[:20]]
        for name, count in self.before.counts().items():
            allowed = max(count, 2 + _EXECUTOR_THREADS) if name == "threads" else count
            if self.after.counts()[name] > allowed:
                found.append(f"{name} at rest grew from {count} to {self.after.counts()[name]}")
        has_trend = self.samples[-1][0] - self.samples[0][0] >= _SHORTEST_TREND
        if has_trend and self.slope > MAX_SLOPE:
            found.append(f"memory grew by {self.slope:.2f} MB a minute; allowed are {MAX_SLOPE}")
        if not has_trend and self.growth > _MAX_GROWTH:
            found.append(f"memory at rest grew by {self.growth:.1f} MB; allowed are {_MAX_GROWTH:g}")
        return found

    def __str__(self) -> str:
        lines = [f"{name:24} {count:10}" for name, count in sorted(self.outcomes.items())]
        lines += [f"{'at rest':24} {'before':>10} {'after':>10}"]
        for name in ("gateway", "others"):
            before, after = getattr(self.before, name) / 1024, getattr(self.after, name) / 1024
            lines.append(f"{f'{name}, MB of its own':24} {before:10.1f} {after:10.1f}")
        for name, count in self.before.counts().items():
            lines.append(f"{name:24} {count:10} {self.after.counts()[name]:10}")
        lines.append(f"under traffic: {self.slope:+.2f} MB a minute over {self.samples[-1][0]:.0f} s")
        return "\n".join(lines)
