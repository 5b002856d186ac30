"""The finalists' turns, over instances that take as long as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maas.errors import BadArtifact, ModelFailed
from maas.models.manifest import Batching
from maas.optimizing.final import TURNS, in_turns
from maas.optimizing.judging import Measurement, Result
from maas.optimizing.samples import Generator
from maas.runtimes.golden import GoldenSample
from maas.types import Signature

SIGNATURE = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]"}, {})
ROW = np.ones(1, np.float32)
NAMES = ("parent", "one", "other")


@dataclass
class Machine:
    """Loads forms by their label; each batch takes the label's `seconds`, or fails after `runs` of them."""

    seconds: dict[str, float]
    runs: dict[str, int] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    most_loaded: int = 0
    order: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def load(self, result: Result) -> AsyncIterator[list[Any]]:
        if result.label not in self.seconds:
            raise BadArtifact("it does not fit")
        self.loaded.append(result.label)
        self.most_loaded = max(self.most_loaded, len(self.loaded))
        try:
            yield [SimpleNamespace(process=SimpleNamespace(pid=0), run=lambda *_: self._run(result.label))]
        finally:
            self.loaded.remove(result.label)

    async def _run(self, label: str) -> None:
        if self.order[-1:] != [label]:
            self.order.append(label)
        self.runs[label] = self.runs.get(label, 1 << 30) - 1
        if self.runs[label] < 0:
            raise ModelFailed("it has had enough")
        await asyncio.sleep(self.seconds[label])

    async def turns(self) -> list[Result]:
        alone = [Result(name, 1, 1, Measurement(1e9, 4, 1.0, 77)) for name in NAMES]
        generator = Generator(SIGNATURE, [GoldenSample({"x": ROW}, {"y": ROW})])
        return await in_turns(alone, self.load, Batching(), generator, 0.001)


def test_finalists_are_loaded_together_and_measured_in_turns() -> None:
    """Each begins a turn as often as the others, near enough; what it did then stands, its memory as it was alone."""
    machine = Machine({"parent": 0.012, "one": 0.005, "other": 0.001})
    found = asyncio.run(machine.turns())
    assert machine.most_loaded == 3
    assert machine.loaded == []
    assert machine.order[:8] == ["parent", "one", "other", "one", "other", "parent", "other", "parent"]
    assert len(machine.order) == 3 * TURNS
    measured = [each.measurement for each in found if each.measurement is not None]
    assert [each.label for each in found] == list(NAMES)
    assert measured[0].samples_per_second < measured[1].samples_per_second < measured[2].samples_per_second
    assert measured[0].latency > 0.012
    assert {each.memory for each in measured} == {77}
    assert all(each.is_final for each in found)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine({"parent": 0.0, "other": 0.0}), "beside the other finalists: it does not fit"),
        (
            Machine({"parent": 0.0, "one": 0.0, "other": 0.0}, {"one": 5}),
            "beside the other finalists: it has had enough",
        ),
    ],
    ids=["not loaded", "dies"],
)
def test_a_finalist_that_fails_is_refused(machine: Machine, said: str) -> None:
    """The others are measured on without it."""
    found = asyncio.run(machine.turns())
    assert [each.refusal for each in found] == ["", said, ""]
    assert machine.loaded == []
    assert machine.order[-2:] == ["other", "parent"]


def test_an_interruption_between_turns_unloads_all() -> None:
    """Whoever is cancelled leaves no process."""
    machine = Machine({"parent": 0.001, "one": 60.0, "other": 0.001})

    async def interrupted() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await machine.turns()

    asyncio.run(interrupted())
    assert machine.most_loaded == 3
    assert machine.loaded == []
