"""Generated requests: of the declared shapes, of values that the model knows, and the same every time."""

from __future__ import annotations

import numpy as np

from maas.optimizing.samples import Generator
from maas.runtimes.golden import GoldenSample
from maas.tensors.check import check_inputs
from maas.types import Bounds, Signature

SIGNATURE = Signature.parse(
    {"ids": "int64[batch, seq]", "mask": "bool[batch, seq]", "scale": "float32[2]"},
    {"y": "float32[batch]"},
    {"seq": Bounds(2, 32)},
)
SAMPLE = GoldenSample(
    {
        "ids": np.array([[7, 9, 7, 11]]),
        "mask": np.array([[True, True, True, False]]),
        "scale": np.array([0.5, 2], np.float32),
    },
    {"y": np.ones(1, np.float32)},
)


def test_requests_are_valid_and_hold_known_values() -> None:
    """Every request passes the check that a caller's does, and holds no value that no sample holds."""
    generator = Generator(SIGNATURE, [SAMPLE])
    for lengths in generator.lengths:
        request = generator.request(5, lengths)
        assert check_inputs(SIGNATURE, request) == 5
        assert set(request["ids"].flat) <= {7, 9, 11}
        assert request["scale"].shape == (2,)


def test_lengths_go_from_the_least_to_the_greatest() -> None:
    """Where bounds are declared they are the ends; where none is, four times the longest sample."""
    assert Generator(SIGNATURE, [SAMPLE]).lengths == [{"seq": 2}, {"seq": 8}, {"seq": 32}]
    free = Signature(SIGNATURE.inputs, SIGNATURE.outputs)
    assert Generator(free, [SAMPLE]).lengths == [{"seq": 1}, {"seq": 4}, {"seq": 16}]
    fixed = Signature.parse({"x": "float32[batch, 2]"}, {"y": "float32[batch]"}, {})
    plain = GoldenSample({"x": np.ones((1, 2), np.float32)}, {"y": np.ones(1, np.float32)})
    assert Generator(fixed, [plain]).lengths == [{}]


def test_the_same_seed_makes_the_same_requests() -> None:
    """Two measurements see the same inputs."""
    one, other = (Generator(SIGNATURE, [SAMPLE], seed=3).request(4, {"seq": 6}) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
