"""Single samples and batches: a value of the declared rank is a batch, one rank lower a single sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maas.errors import InvalidRequest
from maas.tensors.samples import decode_inputs
from maas.types import Signature


def signature(**inputs: str) -> Signature:
    return Signature.parse(inputs, {"y": "float32[1]"}, {})


def decoded(given: Signature, **values: Any) -> tuple[dict[str, np.ndarray], bool]:
    return decode_inputs(given, values, allow_non_finite=False)


@pytest.mark.parametrize(
    ("declaration", "value", "shape", "is_single"),
    [
        ("float32[batch, 2]", [1, 2], (1, 2), True),
        ("float32[batch, 2]", [[1, 2]], (1, 2), False),
        ("float32[batch, 2]", [[1, 2], [3, 4]], (2, 2), False),
        ("float32[batch]", 1.5, (1,), True),
        ("float32[batch]", [1.5], (1,), False),
        ("float32[2, batch, 3]", [[1, 2, 3], [4, 5, 6]], (2, 1, 3), True),
        ("float32[2, batch]", [1, 2], (2, 1), True),
        ("bytes[batch]", "text", (1,), True),
        ("float32[2]", [1, 2], (2,), False),
        ("float32[]", 1, (), False),
    ],
)
def test_the_batch_axis_is_inserted_where_it_is_declared(
    declaration: str, value: Any, shape: tuple[int, ...], is_single: bool
) -> None:
    """A single sample gets the missing axis at its declared place; a batch and what has no `batch` stay as they are."""
    inputs, single = decoded(signature(x=declaration), x=value)
    assert inputs["x"].shape == shape
    assert single is is_single


def test_single_samples_and_batches_do_not_mix() -> None:
    """All inputs that carry `batch` are single or all are batched; the message says which is which."""
    given = signature(x="float32[batch, 2]", z="float32[batch]", rate="float32[]")
    assert decoded(given, x=[1, 2], z=1, rate=2)[1] is True
    assert decoded(given, x=[[1, 2]], z=[1], rate=2)[1] is False
    with pytest.raises(InvalidRequest, match="'x' is a single sample, 'z' is a batch"):
        decoded(given, x=[1, 2], z=[1], rate=2)


@pytest.mark.parametrize("value", [1, [[[1, 2]]]])
def test_another_rank_is_neither(value: Any) -> None:
    """A rank that is neither the declared one nor one lower is refused with both."""
    with pytest.raises(
        InvalidRequest, match=r"expected 2 for a batch, float32\[batch, 2\], or 1 for a single sample"
    ):
        decoded(signature(x="float32[batch, 2]"), x=value)


def test_names_are_checked_before_values_are_read() -> None:
    """An unknown name is refused though its value would be, too."""
    with pytest.raises(InvalidRequest, match="unknown input 'z'"):
        decoded(signature(x="float32[batch]"), x=[1], z={"no": "tensor"})


def test_non_finite_numbers_need_permission() -> None:
    """NaN and infinity are refused unless the model takes them."""
    given = signature(x="float32[batch]")
    with pytest.raises(InvalidRequest, match="the model takes finite numbers"):
        decode_inputs(given, {"x": [float("inf")]}, allow_non_finite=False)
    inputs, _ = decode_inputs(given, {"x": [float("inf"), float("nan")]}, allow_non_finite=True)
    assert np.isinf(inputs["x"][0])
    assert np.isnan(inputs["x"][1])
