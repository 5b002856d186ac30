"""Which values travel as JSON, and how."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from ml_dtypes import bfloat16

from maas.client.wire import decode, encode_inputs
from maas.errors import InvalidRequest


class Foreign:
    """A tensor of another library: it offers itself as an array."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (np.array([[1.5, 2.0]], np.float32), [[1.5, 2.0]]),
        (np.array(3, np.int8), 3),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (bfloat16(0.5), 0.5),
        (np.array([[1.5, 0.1]], bfloat16), [[1.5, 0.100097656]]),
        (np.arange(6).astype(bfloat16).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        ([np.array(2, bfloat16)], [2]),
        (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        (np.arange(6)[::2], [0, 2, 4]),
        (np.array([1.0, 2.0], ">f8"), [1.0, 2.0]),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([b"a", "ü".encode()], object), ["a", "ü"]),
        ([np.array([1]), np.array([2])], [[1], [2]]),
        ((1, 2), [1, 2]),
        ("text", "text"),
        ("ü".encode(), "ü"),
        ("null", "null"),
        (2**64 - 1, 2**64 - 1),
        (2**70, 2**70),
        (None, None),
        (Foreign(), [1.0, 2.0]),
        ([Foreign()], [[1.0, 2.0]]),
    ],
)
def test_values_become_nested_lists(value, sent):
    """Arrays of any layout, scalars, text and other libraries' tensors are written as nested lists."""
    assert json.loads(encode_inputs({"x": value})) == {"x": sent}


@pytest.mark.parametrize(
    "value",
    [
        [1.0, float("nan"), float("inf"), -float("inf")],
        np.array([1.0, np.nan, np.inf, -np.inf], np.float32),
        np.array([1.0, np.nan, np.inf, -np.inf], bfloat16),
        [np.float32("nan"), "null", np.array([np.inf, 2.0])[::-1]],
    ],
    ids=["list", "array", "bfloat16", "mixed"],
)
def test_numbers_that_are_not_finite_stay_visible(value):
    """NaN and infinities go out as bare literals, never as null, for the server to judge."""
    body = encode_inputs({"null": value})
    assert b"NaN" in body
    assert b"Infinity" in body
    assert None not in json.loads(body)["null"]


@pytest.mark.parametrize("value", [{1, 2}, b"\xff", np.array([1j]), object(), [[{1}]]])
def test_what_json_cannot_carry_is_refused_by_name(value):
    """A value that is no tensor raises with the input's name."""
    with pytest.raises(InvalidRequest, match="input 'image' cannot be sent as JSON"):
        encode_inputs({"image": value})


def test_a_list_that_holds_itself_is_refused():
    """Endless nesting is the caller's error too."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InvalidRequest, match="input 'x'"):
        encode_inputs({"x": endless})


@pytest.mark.parametrize("inputs", [[1, 2], np.zeros(3), {1: [2]}])
def test_inputs_are_a_mapping_by_name(inputs):
    """Inputs without names are refused."""
    with pytest.raises(InvalidRequest, match="input"):
        encode_inputs(inputs)


def test_bare_literals_are_read():
    """What strict JSON lacks is read as the server writes it."""
    number, infinite = decode(b"[NaN, -Infinity]")
    assert math.isnan(number)
    assert infinite == -math.inf


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"nan", b"[" * 100_000], ids=["empty", "cut", "bytes", "word", "deep"]
)
def test_what_is_no_json_is_a_value_error(body):
    """Every malformed body raises the same kind of error."""
    with pytest.raises(ValueError, match=r"."):
        decode(body)
