"""Nested lists ↔ arrays: every body is either the array it spells or refused, as a plain-`json` reference says."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tensors.reference import FLOATS, INTEGERS, NoTensor, reference
from tests.tensors.values import anything, leaves, rectangles

from maas.dtypes import DTYPES, float_info
from maas.errors import InvalidRequest, ModelFailed
from maas.tensors.nested import decode, encode
from maas.types import TensorSpec

NUMBERS = [*INTEGERS, *FLOATS]


def spec(dtype: str) -> TensorSpec:
    return TensorSpec("x", dtype, ("batch",))


def same(actual: list[Any], expected: list[Any]) -> bool:
    """Equal with NaN equal to itself and -0.0 another than 0.0."""
    return len(actual) == len(expected) and all(
        type(a) is type(e) and (a == e or (a != a and e != e)) and (not isinstance(a, float) or sign(a, e))
        for a, e in zip(actual, expected, strict=True)
    )


def sign(a: float, e: float) -> bool:
    return math.isnan(a) or math.copysign(1, a) == math.copysign(1, e)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("allow_non_finite", [False, True], ids=["finite", "any number"])
@settings(max_examples=40, deadline=None)  # of each of twenty-eight
@given(value=anything)
def test_decoding_agrees_with_the_reference(dtype: str, allow_non_finite: bool, value: Any) -> None:
    """A value decodes to exactly the shape and elements that a plain walk finds, or both refuse it."""
    try:
        expected = reference(value, dtype, allow_non_finite)
    except NoTensor:
        with pytest.raises(InvalidRequest, match="'x'"):
            decode(value, spec(dtype), allow_non_finite=allow_non_finite)
        return
    array = decode(value, spec(dtype), allow_non_finite=allow_non_finite)
    shape, flat = expected
    # An empty list ends the walk: there is nothing below it that could have a shape.
    assert list(array.shape) == shape
    assert array.dtype == DTYPES[dtype]
    assert same(array.ravel().tolist(), flat)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_the_extremes_of_a_type_decode_and_one_beyond_is_refused(dtype: str) -> None:
    """The least and the greatest number of a type are exact; the next one overflows and is named."""
    info: Any = np.iinfo(dtype) if dtype in INTEGERS else float_info(DTYPES[dtype])
    least, most = info.min.item() if dtype in FLOATS else info.min, info.max
    most = most.item() if dtype in FLOATS else most
    assert decode([least, most], spec(dtype)).tolist() == [least, most]
    beyond = most + 1 if dtype in INTEGERS else (10**400 if dtype == "float64" else most * 1.003)
    with pytest.raises(InvalidRequest, match=rf"'x' at \[1\]\[0\] is .*, which overflows {dtype}"):
        decode([[0], [beyond]], spec(dtype))


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ([[1, 2], [3]], "float32", "input 'x' is ragged: lists of 1 and of 2 elements at axis 1"),
        ([[1], 2], "float32", "input 'x' is ragged: lists and single values are mixed at axis 1"),
        ([1, [2]], "float32", r"input 'x' at \[1\] is list; expected float32"),
        ([True, 1], "int64", r"input 'x' at \[0\] is boolean True; expected int64"),
        ([1, 0], "bool", r"input 'x' at \[0\] is number 1; expected bool"),
        ([1.0], "int32", r"input 'x' at \[0\] is number 1.0; expected int32"),
        (["1"], "float32", r"input 'x' at \[0\] is string '1'; expected float32"),
        ([[0, None]], "float32", r"input 'x' at \[0\]\[1\] is null; expected float32"),
        ({"a": 1}, "float32", "input 'x' is object; expected float32"),
        ([1], "bytes", r"input 'x' at \[0\] is number 1; expected bytes"),
        (["\ud800"], "bytes", r"input 'x' at \[0\] holds a lone surrogate"),
        ([math.nan], "float32", r"input 'x' at \[0\] is nan; the model takes finite numbers"),
        ([3.4e38], "bfloat16", r"input 'x' at \[0\] is 3.4e\+38, which overflows bfloat16"),
        ([1e39], "bfloat16", r"input 'x' at \[0\] is 1e\+39, which overflows bfloat16"),
        ([10**400], "bfloat16", r"input 'x' at \[0\] is 1000.*, which overflows bfloat16"),
        ([-math.inf], "bfloat16", r"input 'x' at \[0\] is -inf; the model takes finite numbers"),
        (256, "uint8", "input 'x' is 256, which overflows uint8"),
        (-1, "uint64", "input 'x' is -1, which overflows uint64"),
    ],
)
def test_a_refusal_names_tensor_place_and_reason(value: Any, dtype: str, message: str) -> None:
    """The message of a refusal says which input, where in it, what came and what was expected."""
    with pytest.raises(InvalidRequest, match=f"^{message}$"):
        decode(value, spec(dtype))


def test_a_refusal_does_not_repeat_a_long_value() -> None:
    """A huge string is cut in the message."""
    with pytest.raises(InvalidRequest) as caught:
        decode(["y" * 100_000], spec("float32"))
    assert len(caught.value.message) < 150


def test_a_long_integer_is_not_guessed() -> None:
    """A whole number keeps every digit in int64 and uint64, where a detour over floats would lose some."""
    assert decode([2**53 + 1, 2**63 - 1], spec("int64")).tolist() == [2**53 + 1, 2**63 - 1]
    assert decode([2**64 - 1], spec("uint64")).tolist() == [2**64 - 1]


def test_too_deep_a_nesting_is_refused() -> None:
    """Lists nested over the greatest rank are refused however deep they are, without recursion."""
    value: Any = 1.0
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidRequest, match="nested over 8 levels deep"):
        decode(value, spec("float32"))
    while isinstance(value, list) and value:  # or taking it apart would recurse
        value = value.pop()


# -- encoding


def written(array: np.ndarray) -> Any:
    return json.loads(orjson.dumps(encode(array, "y"), option=orjson.OPT_SERIALIZE_NUMPY))


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bytes"])
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3)])
def test_encoding_writes_the_nested_lists_of_an_array(dtype: str, shape: tuple[int, ...]) -> None:
    """What is written is the array's own nested lists, whatever its type, rank and layout."""
    array = np.arange(math.prod(shape)).reshape(shape).astype(DTYPES[dtype])
    assert written(array) == array.tolist()
    assert written(array.T) == array.T.tolist()


def test_encoding_writes_bytes_as_text() -> None:
    """Bytes that are UTF-8 are written as text, at every rank."""
    array = np.array([[b"a", "ü€".encode()]], dtype=object)
    assert written(array) == [["a", "ü€"]]
    assert written(np.array(b"z", dtype=object)) == "z"


def test_bytes_that_are_no_text_fail_as_the_model_s_output() -> None:
    """JSON cannot carry arbitrary bytes: the output is named, and it is the model's failure, not the caller's."""
    with pytest.raises(ModelFailed, match="output 'y' holds bytes that are no valid UTF-8"):
        encode(np.array([b"\xff"], dtype=object), "y")


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int64", "uint64", "float16", "bfloat16", "float32", "float64", "bytes"]
)
@settings(deadline=None)
@given(data=st.data())
def test_what_is_encoded_decodes_to_itself(dtype: str, data: st.DataObject) -> None:
    """An array that is written as JSON and read again is the same array."""
    kind = {"b": "bool", "f": "float", "V": "float", "O": "text"}.get(DTYPES[dtype].kind, "int")
    value = data.draw(rectangles(leaves[kind]))
    try:
        array = decode(value, spec(dtype))
    except InvalidRequest:
        return
    again = decode(
        json.loads(orjson.dumps(encode(array, "x"), option=orjson.OPT_SERIALIZE_NUMPY)), spec(dtype)
    )
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again, array)
