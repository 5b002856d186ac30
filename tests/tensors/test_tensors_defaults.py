"""Inputs with a default: how they are declared, and what stands for one that is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maas.errors import InvalidRequest
from maas.tensors.check import check_inputs
from maas.tensors.defaults import complete
from maas.tensors.packing import plan, write
from maas.tensors.stack import stack
from maas.types import Bounds, Signature, TensorSpec

IDS = {"ids": "int64[batch, seq]"}
OUTPUTS = {"y": "float32[batch]"}


def signature(bounds: dict[str, Bounds] | None = None, **inputs: str) -> Signature:
    return Signature.parse({**IDS, **inputs}, OUTPUTS, bounds or {})


@pytest.mark.parametrize(
    ("declaration", "default"),
    [
        ("int64[batch, seq] = 1", 1),
        ("  int8[]=-3 ", -3),
        ("float32[batch] = 1", 1.0),
        ("bfloat16[batch] = 0.5", 0.5),
        ("float64[batch] = 2.5e-3", 0.0025),
        ("bool[batch] = true", True),
        ("bool[batch] = 0", False),
        ("uint64[] = 18446744073709551615", 2**64 - 1),
        ('bytes[batch] = "gr\\u00fc\\u00df = [x]"', "grüß = [x]".encode()),
        ('bytes[] = ""', b""),
        ("int64[batch]", None),
    ],
)
def test_declaration_with_a_default_reads_back(declaration: str, default: object) -> None:
    """As an element of the dtype; written as a declaration it is the same again."""
    spec = TensorSpec.parse("x", declaration)
    assert spec.default == default
    assert type(spec.default) is type(default)
    assert TensorSpec.parse("x", spec.declaration) == spec


@pytest.mark.parametrize(
    "default",
    ["300", "1.5", '"1"', "true", "null", "[1]", "{}", "", "one", "NaN", "1 2", "=1", "[" * 100_000],
)
def test_default_is_one_element_of_the_dtype(default: str) -> None:
    """Whatever is no such element is refused, and said which."""
    with pytest.raises(InvalidRequest, match=r"'x'.*default"):
        TensorSpec.parse("x", f"uint8[batch] = {default}")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("number", ["Infinity", "1e39", "-1e400", "1" + "0" * 400])
def test_default_is_finite(number: str, dtype: str) -> None:
    """A number that the dtype makes an infinity of is no default."""
    with pytest.raises(InvalidRequest, match="default"):
        TensorSpec.parse("x", f"{dtype}[batch] = {number}")


def test_somebody_must_say_how_long_it_is() -> None:
    """Each dimension with a name must stand in an input that is always there."""
    with pytest.raises(
        InvalidRequest, match="'mask' has a default, but no input without one has a dimension 'len'"
    ):
        signature(mask="int64[batch, len] = 1")
    with pytest.raises(InvalidRequest, match=r"'a' has a default.*'n'"):
        signature(a="int64[batch, n] = 1", b="int64[batch, n] = 1")
    with pytest.raises(InvalidRequest, match=r"'a' has a default.*'batch'"):
        Signature.parse({"a": "int64[batch] = 1"}, OUTPUTS, {})


def test_outputs_have_no_default() -> None:
    """It would say nothing."""
    with pytest.raises(InvalidRequest, match="output 'y' has a default"):
        Signature.parse(IDS, {"y": "float32[batch] = 1"}, {})


def test_what_is_left_out_is_as_long_as_the_others_say() -> None:
    """Rows, lengths and numbers that are fixed; the order is that of the declaration."""
    declared = signature(
        mask="int8[batch, seq] = 1",
        scale="float32[2, seq, batch] = 0.5",
        text='bytes[batch] = "none"',
        rate="int64[] = 16000",
    )
    ids = np.zeros((3, 5), np.int64)
    rate = np.array(8000)
    completed = complete(declared, {"rate": rate, "ids": ids})
    assert list(completed) == ["ids", "mask", "scale", "text", "rate"]
    assert completed["ids"] is ids
    assert completed["rate"] is rate
    assert np.array_equal(completed["mask"], np.ones((3, 5), np.int8))
    assert np.array_equal(completed["scale"], np.full((2, 5, 3), 0.5, np.float32))
    assert completed["text"].tolist() == [b"none"] * 3
    assert check_inputs(declared, completed) == 3


def test_what_is_whole_stays_what_it_is() -> None:
    """Nothing is made where nothing is missing."""
    inputs = {"ids": np.zeros((1, 2), np.int64), "mask": np.zeros((1, 2), np.int8)}
    assert complete(signature(mask="int8[batch, seq] = 1"), inputs) is inputs


def test_missing_ones_are_named() -> None:
    """All that have no default; the message has the defaults of the others."""
    declared = signature(mask="int8[batch, seq] = 1", other="float32[batch]", third="float32[batch]")
    with pytest.raises(
        InvalidRequest, match=r"^inputs 'other', 'third' are missing; .* mask \(or else 1\), other"
    ):
        complete(declared, {"ids": np.zeros((1, 2), np.int64)})
    with pytest.raises(InvalidRequest, match=r"^input 'third' is missing"):
        complete(declared, {"ids": np.zeros((1, 2), np.int64), "other": np.zeros(1, np.float32)})
    with pytest.raises(InvalidRequest, match="unknown input 'masks'"):
        complete(declared, {"ids": np.zeros((1, 2), np.int64), "masks": np.zeros(1, np.float32)})


def test_one_input_must_be_there() -> None:
    """Even where each has a default."""
    declared = Signature.parse({"a": "int64[2] = 1", "b": "int64[] = 2"}, {"y": "float32[2]"}, {})
    with pytest.raises(InvalidRequest, match="there is no input"):
        complete(declared, {})
    assert complete(declared, {"b": np.array(3)})["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "ids", [np.zeros(3, np.int64), np.zeros((1, 2), np.int32), np.zeros((0, 2), np.int64)]
)
def test_wrong_inputs_are_said_to_be_wrong(ids: np.ndarray) -> None:
    """What is there is judged first, so no size is taken from what is not as declared."""
    with pytest.raises(InvalidRequest, match="'ids'"):
        complete(signature(mask="int8[batch, seq] = 1"), {"ids": ids})


def test_long_default_takes_no_memory() -> None:
    """It is one element however large the tensor is said to be; texts are counted as those of a request are."""
    declared = signature(mask="float64[batch, seq, seq] = 0")
    mask = complete(declared, {"ids": np.zeros((1, 1 << 20), np.int64)})["mask"]
    assert mask.nbytes == 8 << 40
    assert math.prod(mask.strides) == 0
    declared = signature(text='bytes[batch, seq, seq] = "x"')
    with pytest.raises(InvalidRequest, match="strings"):
        complete(declared, {"ids": np.zeros((1, 1 << 20), np.int64)})


def test_it_is_stacked_with_those_that_were_given_and_padded() -> None:
    """In a batch nobody knows who gave it: what is padded is padded with the pad, not with the default."""
    declared = signature({"seq": Bounds(max=4, pad={"ids": 9, "mask": 0, "text": "-"})},
                         mask="int64[batch, seq] = 1", text='bytes[batch, seq] = "x"')  # fmt: skip
    short = complete(declared, {"ids": np.full((1, 1), 5)})
    long = complete(declared, {"ids": np.full((1, 3), 6), "mask": np.array([[1, 1, 0]])})
    columns = stack(declared, [short, long])
    assert columns[1].stacked().tolist() == [[1, 0, 0], [1, 1, 0]]
    assert columns[2].stacked().tolist() == [[b"x", b"-", b"-"], [b"x", b"x", b"x"]]
    places, nbytes = plan(columns)
    buffer = memoryview(bytearray(nbytes))
    for column, place in zip(columns, places, strict=True):
        write(buffer, place, column)
    found = np.frombuffer(buffer, np.int64, 6, places[1].offset).reshape(2, 3)
    assert found.tolist() == [[1, 0, 0], [1, 1, 0]]
