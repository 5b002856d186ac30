"""The native dialect: what a bad request gets; each message names the tensor, what was expected and what came."""

from __future__ import annotations

import pytest
from tests.api.harness import Model, in_loop, serving
from tests.api.test_api_native import TWO

PAIRS = Model()
INTEGERS = Model(inputs={"x": "int8[batch, 2]"}, outputs={"y": "int8[batch, 2]"})
UNSIGNED = Model(inputs={"x": "uint64[batch]"}, outputs={"y": "uint64[batch]"})
LONG = Model(inputs={"x": "int64[batch]"}, outputs={"y": "int64[batch]"})
HALF = Model(inputs={"x": "float16[batch]"}, outputs={"y": "float16[batch]"})
BRAIN = Model(inputs={"x": "bfloat16[batch]"}, outputs={"y": "bfloat16[batch]"})
TEXT = Model(inputs={"x": "bytes[batch]"}, outputs={"y": "bytes[batch]"})
FLAGS = Model(inputs={"x": "bool[batch]"}, outputs={"y": "bool[batch]"})
BOUNDED = Model(
    inputs={"x": "float32[batch, time]"},
    outputs={"y": "float32[batch, time]"},
    manifest={"dimensions": {"time": {"min": 2, "max": 3}}},
)

CASES = {
    "unknown name": (PAIRS, {"x": [1, 2], "z": 1}, ["unknown input 'z'", "takes x"]),
    "missing name": (PAIRS, {}, ["input 'x' is missing", "takes x"]),
    "missing one of two": (TWO, {"a": [1]}, ["input 'b' is missing", "takes a, b"]),
    "rank too high": (
        PAIRS,
        {"x": [[[1, 2]]]},
        ["'x'", "3 dimensions [1, 1, 2]", "expected 2", "float32[batch, 2]"],
    ),
    "rank too low": (PAIRS, {"x": 1}, ["'x'", "0 dimensions", "or 1 for a single sample"]),
    "nested too deep": (PAIRS, {"x": [[[[[[[[[[1]]]]]]]]]]}, ["'x'", "levels deep"]),
    "dimension of a single": (
        PAIRS,
        {"x": [1, 2, 3]},
        ["'x'", "length 3", "expected 2", "float32[batch, 2]"],
    ),
    "dimension of a batch": (PAIRS, {"x": [[1], [2]]}, ["'x'", "length 1 at axis 1", "expected 2"]),
    "dimension under its least": (BOUNDED, {"x": [[1]]}, ["'x'", "time = 1", "at least 2"]),
    "dimension over its most": (BOUNDED, {"x": [[1, 2, 3, 4]]}, ["'x'", "time = 4", "at most 3"]),
    "string for a number": (PAIRS, {"x": [1, "2"]}, ["'x' at [1]", "string '2'", "expected float32"]),
    "boolean for a number": (
        PAIRS,
        {"x": [[1, 2], [1, True]]},
        ["'x' at [1][1]", "boolean", "expected float32"],
    ),
    "null for a number": (PAIRS, {"x": [None, 1]}, ["'x' at [0]", "null", "expected float32"]),
    "object for a tensor": (PAIRS, {"x": {"data": [1, 2]}}, ["'x'", "object", "expected float32"]),
    "number for text": (TEXT, {"x": [1]}, ["'x' at [0]", "number 1", "expected bytes"]),
    "number for a flag": (FLAGS, {"x": [0]}, ["'x' at [0]", "number 0", "expected bool"]),
    "fraction for an integer": (INTEGERS, {"x": [1, 1.0]}, ["'x' at [1]", "number 1.0", "expected int8"]),
    "integer over its type": (INTEGERS, {"x": [1, 128]}, ["'x' at [1]", "128", "overflows int8"]),
    "integer under its type": (INTEGERS, {"x": [-129, 0]}, ["'x' at [0]", "-129", "overflows int8"]),
    "negative for unsigned": (UNSIGNED, {"x": [0, -1]}, ["'x' at [1]", "-1", "overflows uint64"]),
    "2^63 for int64": (LONG, {"x": [2**63]}, ["'x' at [0]", "9223372036854775808", "overflows int64"]),
    "2^64 for uint64": (UNSIGNED, {"x": [2**64]}, ["'x' at [0]", "expected uint64"]),
    "float32 overflow": (PAIRS, {"x": [1, 1e39]}, ["'x' at [1]", "1e+39", "overflows float32"]),
    "float16 overflow": (HALF, {"x": [65520]}, ["'x' at [0]", "65520", "overflows float16"]),
    "bfloat16 overflow": (BRAIN, {"x": [1, 3.4e38]}, ["'x' at [1]", "3.4e+38", "overflows bfloat16"]),
    "ragged by length": (PAIRS, {"x": [[1, 2], [3]]}, ["'x' is ragged", "lists of 1 and of 2", "axis 1"]),
    "ragged by kind": (PAIRS, {"x": [[1, 2], 3]}, ["'x' is ragged", "mixed at axis 1"]),
    "empty batch": (LONG, {"x": []}, ["'x'", "batch = 0", "at least 1"]),
    "empty rows": (BOUNDED, {"x": [[], []]}, ["'x'", "time = 0", "at least 2"]),
    "too many rows": (PAIRS, {"x": [[1, 2]] * 5}, ["5 rows", "'double/1' accepts 4"]),
    "single beside batch": (TWO, {"a": [1, 2], "b": [1]}, ["'a' is a single sample", "'b' is a batch"]),
    "unequal rows": (TWO, {"a": [[1], [2]], "b": [1]}, ["'b' has batch = 1", "'a' has batch = 2"]),
}


@pytest.mark.parametrize("case", CASES)
@in_loop
async def test_bad_input_is_refused_with_names_and_numbers(case: str) -> None:
    """A request that is not what the model declares is a 400 that says where and how, and is never run."""
    model, body, words = CASES[case]
    async with serving(model) as service:
        answer = await service.predict(body)
        ran = service.instances["double/1"].batches
    assert answer.status_code == 400
    refusal = answer.json()
    assert set(refusal) == {"error", "code", "request_id"}
    assert refusal["code"] == "invalid_request"
    assert [word for word in words if word not in refusal["error"]] == [], refusal["error"]
    assert not ran


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is no JSON"),
        (b"hello", "the body is no JSON"),
        (b'{"x": [1, 2]', "the body is no JSON"),
        (b'{"x": [1, 2]} {}', "the body is no JSON"),
        (b"[1, 2]", "the body is a JSON array; expected an object"),
        (b'"x"', "the body is a JSON string; expected an object"),
        (b"null", "the body is a JSON null; expected an object"),
        (b"true", "the body is a JSON boolean; expected an object"),
        (b"3", "the body is a JSON number; expected an object"),
        (b'{"x": [NaN, 1]}', "the body is no JSON"),
        (b'{"x": [Infinity, 1]}', "the body is no JSON"),
        (b'{"x": [1e999, 1]}', "the body is no JSON"),
        (b'{"x": [01, 1]}', "the body is no JSON"),
    ],
)
@in_loop
async def test_body_that_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    """What is no JSON object, and NaN and Infinity where they are not allowed, is a 400 that says so."""
    async with serving() as service:
        answer = await service.predict(body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert words in answer.json()["error"]


@in_loop
async def test_finite_number_that_overflows_is_refused_where_infinity_is_allowed() -> None:
    """`allow_non_finite` lets infinities in that the caller wrote, not those that rounding would make."""
    async with serving(Model(manifest={"allow_non_finite": True})) as service:
        narrow = await service.predict(b'{"x": [Infinity, 1e39]}')
        wide = await service.predict(b'{"x": [NaN, 1e999]}')
    assert narrow.status_code == 400
    assert "'x' at [1] is 1e+39, which overflows float32" in narrow.json()["error"]
    assert wide.status_code == 400
    assert "1e999" in wide.json()["error"]


@in_loop
async def test_refused_request_leaves_its_neighbours_alone() -> None:
    """A bad request among good ones is refused alone."""
    async with serving() as service:
        bad = await service.predict({"x": [1]})
        good = await service.predict({"x": [1, 2]})
    assert (bad.status_code, good.status_code) == (400, 200)
