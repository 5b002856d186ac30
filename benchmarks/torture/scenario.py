"""A scenario: one hazard, run from a clean start, and the figures that it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.torture.adapters.contract import Adapter
from benchmarks.torture.load import Load, Running
from benchmarks.torture.trace import Trace
from benchmarks.torture.verdict import Check


@dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario is given: the server's adapter, an empty folder, a seed, and loads to put on."""

    adapter: Adapter
    folder: Path
    seed: int = 0
    _loads: list[Running] = field(default_factory=list)

    def start(self, load: Load) -> Running:
        running = Running(replace(load, seed=self.seed), self.folder)
        self._loads.append(running)
        return running

    def run(self, load: Load) -> Trace:
        return self.start(load).trace()

    def close(self) -> None:
        """End the loads that a scenario left when it failed."""
        for load in self._loads:
            load.kill()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`what` is one line for the list; `seconds` bound it. One that `is_of_maas` needs what no other server has."""

    name: str
    what: str
    run: Callable[[Bench], Sequence[Check]]
    seconds: float = 60.0
    is_of_maas: bool = False
