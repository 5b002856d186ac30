"""Holding arrays against a signature: what is wrong is named, with what was expected and what came."""

from __future__ import annotations

import numpy as np
import pytest

from maas.dtypes import DTYPES, float_info
from maas.errors import InvalidRequest, ModelFailed
from maas.tensors.check import check_finite, check_inputs, check_outputs
from maas.types import Bounds, Signature, Tensors

TEXT = np.array([b"a", b"b"], dtype=object)


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


SIGNATURE = Signature.parse(
    {"ids": "int64[batch, seq]", "state": "float32[2, batch, 4]", "rate": "int64[]"},
    {"y": "float32[batch, seq]", "total": "float64[]"},
    {"seq": Bounds(2, 5)},
)


def request(**changes: np.ndarray) -> Tensors:
    usual = {"ids": zeros(3, 4, dtype="int64"), "state": zeros(2, 3, 4), "rate": zeros(dtype="int64")}
    return usual | changes


def test_rows_are_counted_along_batch() -> None:
    """The rows of a request are its length along `batch`, on whatever axis that stands; without `batch` it is 1."""
    assert check_inputs(SIGNATURE, request()) == 3
    alone = Signature.parse({"x": "float32[n]"}, {"y": "float32[n]"}, {})
    assert check_inputs(alone, {"x": zeros(7)}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": zeros(3, 4)}, "input 'ids' is float32; expected int64"),
        ({"ids": zeros(3, 4, dtype=">i8")}, "input 'ids' is >i8; expected int64"),
        (
            {"ids": zeros(3, dtype="int64")},
            r"input 'ids' has 1 dimensions \[3\]; expected 2: int64\[batch, seq\]",
        ),
        ({"state": zeros(2, 3, 5)}, r"'state' has length 5 at axis 2; expected 4: float32\[2, batch, 4\]"),
        ({"state": zeros(2, 1, 4)}, "input 'state' has batch = 1, but input 'ids' has batch = 3"),
        ({"ids": zeros(0, 4, dtype="int64")}, "input 'ids' has batch = 0; at least 1 is expected"),
        ({"ids": zeros(3, 1, dtype="int64")}, "input 'ids' has seq = 1; at least 2 is expected"),
        ({"ids": zeros(3, 6, dtype="int64")}, "input 'ids' has seq = 6; at most 5 is accepted"),
        ({"rate": zeros(1, dtype="int64")}, r"input 'rate' has 1 dimensions \[1\]; expected 0: int64\[\]"),
    ],
)
def test_an_input_that_is_not_as_declared_is_refused(changes: Tensors, message: str) -> None:
    """Type, rank, fixed lengths, bounds and agreement between inputs are checked, and the message tells both sides."""
    with pytest.raises(InvalidRequest, match=message):
        check_inputs(SIGNATURE, request(**changes))


def test_padded_dimension_must_come_back_as_long_as_it_was_given() -> None:
    """What is cut back to the requests' lengths must not have been of another length, or rows would get each other's parts."""
    signature = Signature.parse(
        {"x": "float32[batch, n]"}, {"y": "float32[batch, n]"}, {"n": Bounds(max=8, pad=0)}
    )
    padded = signature.padded_lengths_of({"x": np.zeros((2, 5), np.float32)})
    check_outputs(signature, {"y": np.zeros((2, 5), np.float32)}, 2, padded)
    with pytest.raises(ModelFailed, match=r"shape \[2, 4\].* and the batch has 2 rows, n = 5"):
        check_outputs(signature, {"y": np.zeros((2, 4), np.float32)}, 2, padded)


def test_names_are_exactly_the_declared_ones() -> None:
    """An unknown input and a missing one are refused with the names that there are."""
    whole = request()
    with pytest.raises(InvalidRequest, match="unknown input 'idz'; the model takes ids, state, rate"):
        check_inputs(SIGNATURE, {**whole, "idz": whole["ids"]})
    with pytest.raises(InvalidRequest, match="input 'state' is missing; the model takes ids, state, rate"):
        check_inputs(SIGNATURE, {name: whole[name] for name in ("ids", "rate")})
    with pytest.raises(InvalidRequest) as caught:
        check_inputs(SIGNATURE, {"x" * 10_000: whole["ids"]})
    assert len(caught.value.message) < 200
    with pytest.raises(InvalidRequest, match="unknown input 'idz'"):
        check_inputs(SIGNATURE, {**{name: whole[name] for name in ("ids", "rate")}, "idz": whole["state"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None}, "the model gave no array for its output 'y'"),
        ({"y": [[1.0]]}, "the model gave no array for its output 'y'"),
        ({"y": zeros(3, 4, dtype="float64")}, "output 'y' is float64; the model declares float32"),
        ({"y": zeros(2, 4)}, r"'y' has shape \[2, 4\]; .* float32\[batch, seq\] and the batch has 3 rows"),
        ({"y": zeros(3)}, r"output 'y' has shape \[3\]"),
        ({"total": zeros(1, dtype="float64")}, r"output 'total' has shape \[1\]"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_the_model_s_failure(changes: Tensors, message: str) -> None:
    """A missing output, another type, rank or number of rows fails the model, not the caller."""
    outputs = {"y": zeros(3, 4), "total": zeros(dtype="float64")}
    check_outputs(SIGNATURE, outputs, 3)
    with pytest.raises(ModelFailed, match=message):
        check_outputs(SIGNATURE, outputs | changes, 3)


def test_an_output_of_bytes_holds_bytes() -> None:
    """Elements of another kind in an array of objects are refused: they would break whoever packs them."""
    signature = Signature.parse({"x": "bytes[batch]"}, {"y": "bytes[batch]"}, {})
    check_outputs(signature, {"y": TEXT}, 2)
    with pytest.raises(ModelFailed, match="output 'y' holds elements that are no bytes"):
        check_outputs(signature, {"y": np.array([b"a", "b"], dtype=object)}, 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_non_finite_outputs_are_named(dtype: str, wrong: float) -> None:
    """NaN and both infinities are found wherever they stand; the code tells them from other failures."""
    array = np.full((2, 3), float_info(DTYPES[dtype]).max, DTYPES[dtype])
    check_finite(array, "y")
    array[1, 2] = wrong
    with pytest.raises(ModelFailed, match="output 'y' holds NaN or infinity") as caught:
        check_finite(array, "y")
    assert caught.value.code == "non_finite_output"


def test_only_floats_can_be_non_finite() -> None:
    """Whole numbers, truth values and bytes are finite by nature."""
    for array in (zeros(2, dtype="int64"), zeros(2, dtype="bool"), TEXT):
        check_finite(array, "y")
