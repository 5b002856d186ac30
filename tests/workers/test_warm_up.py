"""Warming up: what is measured of a model before it is asked anything, and what is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from maas.errors import OutOfMemory
from maas.runtimes.golden import GoldenSample
from maas.types import Bounds, CurvePoint, Signature, Tensors
from maas.workers import warm_up as module
from maas.workers.warm_up import warm_up

FIXED = Signature.parse({"x": "float32[batch, 2]"}, {"y": "float32[batch]"}, {})
LENGTHS = Signature.parse(
    {"x": "float32[batch, time]"}, {"y": "float32[batch]"}, {"time": Bounds(min=4, max=64)}
)


class Clock:
    """Time that passes only where a model takes it."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Model:
    """A runner that notes the shapes that it is asked for."""

    def __init__(self, run: Callable[[Tensors], None] = lambda _: None) -> None:
        self._run = run
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Tensors) -> Tensors:
        self.shapes.append(inputs["x"].shape)
        self._run(inputs)
        return {"y": inputs["x"].sum(axis=-1)}


def sample(*shape: int) -> GoldenSample:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return GoldenSample({"x": x}, {"y": x.sum(axis=-1)})


def sizes(curve: list[CurvePoint]) -> list[tuple[int, int]]:
    return [(point.rows, point.elements) for point in curve]


def takes(clock: Clock, seconds: Callable[[tuple[int, ...]], float]) -> Callable[[Tensors], None]:
    def run(inputs: Tensors) -> None:
        clock.now += seconds(inputs["x"].shape)

    return run


def test_every_size_is_run_and_measured(clock: Clock) -> None:
    """Powers of two and the largest, of the sample's first row; each more than once, since a first run proves nothing."""
    model = Model(takes(clock, lambda shape: 0.002 + 0.0005 * shape[0]))
    curve = warm_up(model, FIXED, sample(3, 2), 12)
    assert sizes(curve) == [(1, 1), (2, 1), (4, 1), (8, 1), (12, 1)]
    assert min(model.shapes.count((rows, 2)) for rows in (1, 2, 4, 8, 12)) >= 2
    for point in curve:
        assert point.seconds == pytest.approx(0.002 + 0.0005 * point.rows)


def test_variable_lengths_are_measured_from_the_longest_down() -> None:
    """Besides the sample's own length, each a quarter of the one before, within what is declared."""
    model = Model()
    curve = warm_up(model, LENGTHS, sample(1, 5), 2)
    assert sizes(curve) == [(rows, length) for length in (5, 64, 16, 4) for rows in (1, 2)]
    assert set(model.shapes) == {(rows, length) for length in (5, 64, 16, 4) for rows in (1, 2)}


def test_batches_that_would_cost_too_much_are_not_run() -> None:
    """What the policy will never make need not fit in memory; one row is run in any case."""
    curve = warm_up(Model(), LENGTHS, sample(1, 5), 8, max_batch_cost=20)
    assert sizes(curve) == [(1, 5), (2, 5), (4, 5), (1, 64), (1, 16), (1, 4), (2, 4), (4, 4)]


def test_a_size_that_does_not_fit_ends_its_length() -> None:
    """Smaller ones fit, and a batch that does not is run in pieces."""

    def fit(inputs: Tensors) -> None:
        if inputs["x"].size > 40:
            raise OutOfMemory("no")

    curve = warm_up(Model(fit), LENGTHS, sample(1, 5), 32)
    assert sizes(curve) == [
        *((rows, 5) for rows in (1, 2, 4, 8)), (1, 16), (2, 16), *((rows, 4) for rows in (1, 2, 4, 8)),
    ]  # fmt: skip


def test_a_length_of_our_making_may_be_nonsense_to_a_model() -> None:
    """It is left out; what the model raises over its own sample comes through."""

    def refuse(inputs: Tensors) -> None:
        if inputs["x"].shape[1] != 5:
            raise ValueError("nonsense")

    assert sizes(warm_up(Model(refuse), LENGTHS, sample(1, 5), 2)) == [(1, 5), (2, 5)]
    with pytest.raises(ValueError, match="nonsense"):
        warm_up(Model(refuse), LENGTHS, sample(1, 6), 2)


def test_a_slow_model_is_warmed_up_no_longer_than_some_seconds(clock: Clock) -> None:
    """No batch is begun that by the one before would not end in time; what was run once only is no measure, but for the
    first."""
    curve = warm_up(Model(takes(clock, lambda shape: 0.7 * shape[0])), FIXED, sample(1, 2), 32)
    assert clock.now <= 5.0
    assert curve == [CurvePoint(1, 1, pytest.approx(0.7))]
    clock.now = 0.0
    curve = warm_up(Model(takes(clock, lambda shape: 9.0)), FIXED, sample(1, 2), 32)
    assert (clock.now, sizes(curve)) == (9.0, [(1, 1)])


def test_sizes_that_agree_are_not_run_again(clock: Clock) -> None:
    """A model that takes the same each time is known after two rounds."""
    model = Model(takes(clock, lambda _: 0.02))
    warm_up(model, FIXED, sample(1, 2), 4)
    assert len(model.shapes) == 2 * 3


def test_the_middle_of_several_rounds_counts_without_the_first(clock: Clock) -> None:
    """First-time work and a stall in one round leave no trace."""
    runs: dict[int, int] = {}

    def seconds(shape: tuple[int, ...]) -> float:
        runs[shape[0]] = runs.get(shape[0], 0) + 1
        return {1: 1.0, 3: 0.5}.get(runs[shape[0]], 0.01)

    curve = warm_up(Model(takes(clock, seconds)), FIXED, sample(1, 2), 2)
    assert curve == [CurvePoint(1, 1, pytest.approx(0.01)), CurvePoint(2, 1, pytest.approx(0.01))]


def test_a_model_without_batch_has_one_size() -> None:
    """The whole sample, which is what every request is."""
    whole = Signature.parse({"x": "float32[n, 2]"}, {"y": "float32[n]"}, {})
    assert sizes(warm_up(Model(), whole, sample(3, 2), 1)) == [(1, 3)]
