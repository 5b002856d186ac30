"""Which answers are right and which result wins: tables."""

from __future__ import annotations

import numpy as np
import pytest

from maas.dtypes import DTYPES, float_info
from maas.optimizing.judging import (
    Limits,
    Measurement,
    Result,
    Target,
    best,
    finalists,
    gain,
    largest_error,
    metric_loss,
    refusal,
    tolerances,
)
from maas.types import DEFAULT_TOLERANCES, Array, Signature, Tolerance

SIGNATURE = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]", "k": "int64[batch]"}, {})


def result(label: str, rate: float, latency: float, memory: int, refused: str = "") -> Result:
    return Result(label, 1, 1, Measurement(rate, 8, latency, memory), 0.0, None, refused)


RESULTS = [
    result("parent", 100, 0.010, 300),
    result("fast", 400, 0.008, 500),
    result("wrong", 900, 0.001, 100, "answers are off"),
    result("quick", 200, 0.004, 400),
    result("small", 90, 0.020, 200),
    Result("absent", 1, 1, None, refusal="it is not installed"),
]


@pytest.mark.parametrize(
    ("target", "label", "times"),
    [("throughput", "fast", 4), ("latency", "quick", 2.5), ("memory", "small", 1.5)],
)
def test_the_best_for_the_target_wins_among_those_that_answer_right(
    target: Target, label: str, times: float
) -> None:
    """What is refused or could not be measured never wins, however fast it is."""
    winner = best(RESULTS, target)
    assert winner is not None
    assert winner.label == label
    assert gain(winner, RESULTS[0], target) == pytest.approx(times)


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-3), ("float16", 1e-3), ("bfloat16", 2e-2)])
def test_answers_in_bfloat16_are_held_to_its_own_steps(dtype: str, limit: float) -> None:
    """One step is more than what answers in float32 may be off; a model of both is held to the coarser."""
    signature = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]", "z": f"{dtype}[batch]"}, {})
    assert Limits().of(False, signature) == limit
    assert Limits().of(True, signature) == 2e-2
    one = {"y": np.ones(2, np.float32), "z": np.ones(2, DTYPES[dtype])}
    step = {**one, "z": one["z"] * (1 + float(float_info(DTYPES[dtype]).eps))}
    assert largest_error(signature, one, {**step, "z": step["z"].astype(DTYPES[dtype])}) <= limit


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        ("throughput", ["parent", "fast", "quick"]),
        ("latency", ["parent", "quick", "fast"]),
        ("memory", ["parent", "small", "quick"]),
    ],
)
def test_the_two_best_and_what_there_is_now_are_finalists(target: Target, labels: list[str]) -> None:
    """The parent is held against them however slow it is; what is refused or could not be measured is not among them."""
    assert [each.label for each in finalists(RESULTS, RESULTS[0], target)] == labels
    assert finalists(RESULTS[:1], RESULTS[0], target) == RESULTS[:1]


def test_the_first_of_equals_wins_and_none_of_nothing() -> None:
    """The parent stays where others are only as good; without a right one there is no winner."""
    assert best([RESULTS[0], result("other", 100, 0.010, 300)], "throughput") is RESULTS[0]
    assert best(RESULTS[2:3], "throughput") is None


@pytest.mark.parametrize(
    ("y", "k", "expected"),
    [
        ([1, -4, 2], [1, 2, 3], 0),
        ([1, -4, 2.04], [1, 2, 3], 0.01),
        ([0, 0, 0], [1, 2, 3], 1),
        ([1, -4, 2], [1, 2, 4], np.inf),
        ([1, -4, np.nan], [1, 2, 3], np.inf),
        ([1, -4, np.inf], [1, 2, 3], np.inf),
        ([1, -4], [1, 2, 3], np.inf),
    ],
)
def test_an_error_is_a_share_of_the_output_s_largest_number(
    y: list[float], k: list[int], expected: float
) -> None:
    """Whole numbers must be equal, shapes and what is not finite the same."""
    golden = {"y": np.array([1, -4, 2], np.float32), "k": np.array([1, 2, 3])}
    actual = {"y": np.array(y, np.float32), "k": np.array(k)}
    assert largest_error(SIGNATURE, golden, actual) == pytest.approx(expected, abs=1e-6)


def test_what_is_expected_to_be_infinite_must_be() -> None:
    """An infinity is right only where one is expected, with its sign."""
    one = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]"}, {})

    def error(expected: Array, actual: Array) -> float:
        return largest_error(one, {"y": expected}, {"y": actual})

    infinite = np.array([np.inf, 1], np.float32)
    assert error(infinite, infinite) == 0
    assert error(infinite, -infinite) == np.inf


@pytest.mark.parametrize(
    ("error", "loss", "said"),
    [
        (1e-4, None, ""),
        (1e-3, 0.5, ""),
        (2e-3, None, "answers are off by 0.002; allowed is 0.001"),
        (float("inf"), None, "answers are off by inf; allowed is 0.001"),
        (float("nan"), None, "answers are off by nan; allowed is 0.001"),
        (0, 0.6, "the task's metric loses 0.6 points; allowed are 0.5"),
    ],
)
def test_a_refusal_has_the_numbers(error: float, loss: float | None, said: str) -> None:
    """Answers off by more than is allowed are refused, and so is a metric that loses more."""
    assert refusal(error, 1e-3, loss, 0.5) == said


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"accuracy": 0.98}, {"accuracy": 0.97}, 1.0),
        ({"accuracy": 0.97}, {"accuracy": 0.98}, -1.0),
        ({"rmse": 50.0}, {"rmse": 51.0}, 2.0),
        ({"accuracy": 0.98, "log_loss": 0.1}, {"accuracy": 0.98, "log_loss": 0.101}, 1.0),
        ({}, {}, None),
        ({"measured_on": "rows"}, {"measured_on": "rows"}, None),
    ],
)
def test_a_loss_is_in_points_of_the_metric_that_lost_most(
    before: dict[str, object], after: dict[str, object], expected: float | None
) -> None:
    """Shares lose their difference; errors lose what they grew by, as a share of themselves."""
    found = metric_loss(before, after)
    assert found == (None if expected is None else pytest.approx(expected))


def test_tolerances_widen_to_what_was_allowed_and_never_narrow() -> None:
    """A version's self-test must pass with answers that were accepted; the parent's wider ones stay."""
    outputs = [{"y": np.array([5, -20], np.float32), "k": np.array([1, 2])}]
    parent = dict(DEFAULT_TOLERANCES) | {"float32": Tolerance(1e-4, 0.9)}
    found = tolerances(SIGNATURE, outputs, 0.02, parent)
    assert found["float32"] == Tolerance(0.02, 0.9)
    assert tolerances(SIGNATURE, outputs, 0.02, DEFAULT_TOLERANCES)["float32"] == Tolerance(0.02, 0.4)
    assert found["float64"] == DEFAULT_TOLERANCES["float64"]
    assert found.keys() == parent.keys()
