"""The binary tensor data extension: raw tensors behind the JSON of an Open Inference request, and of its answer."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.api.harness import Model, Service, in_loop, serving
from tests.values import values_of

from maas.api.oip.raw_tensors import read_raw, write_raw
from maas.dtypes import DTYPES
from maas.errors import InvalidRequest
from maas.types import TensorSpec

X = np.array([[1, 2], [3, 4]], np.float32)
TEXTS = Model(
    "texts",
    inputs={"t": "bytes[batch]", "n": "int32[batch]"},
    outputs={"t": "bytes[batch]", "n": "int32[batch]"},
    function=lambda inputs: dict(inputs),
)


def entry(name: str, datatype: str, array: np.ndarray, raw: bytes) -> dict[str, Any]:
    shape = list(array.shape)
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": len(raw)},
    }


async def ask(
    service: Service, request: dict[str, Any], behind: bytes, model: str = "double", **headers: str
) -> httpx.Response:
    text = json.dumps(request).encode()
    own = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    return await service.infer(text + behind, model, headers={**own, **headers})


def cut(answer: httpx.Response) -> tuple[dict[str, Any], bytes]:
    size = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    return json.loads(answer.content[:size]), answer.content[size:]


@in_loop
async def test_raw_tensor_goes_in_and_json_comes_out() -> None:
    """A request may be raw and ask for JSON, which is what it gets unless it says otherwise."""
    async with serving() as service:
        answer = await ask(service, {"inputs": [entry("x", "FP32", X, X.tobytes())]}, X.tobytes())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]


@pytest.mark.parametrize(
    "terms",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
        {
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
            "parameters": {"binary_data_output": False},
        },
    ],
)
@in_loop
async def test_answer_is_raw_where_it_is_asked_for(terms: dict[str, Any]) -> None:
    """For all outputs at once, or for one, whose own word counts."""
    async with serving() as service:
        plain = [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]
        told, raw = cut(await service.infer({"inputs": plain, **terms}))
    assert told["outputs"] == [
        {"name": "y", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    ]
    assert np.array_equal(np.frombuffer(raw, np.float32).reshape(2, 2), X * 2)


@in_loop
async def test_several_tensors_lie_behind_each_other() -> None:
    """In the order in which the JSON names them, raw and plain mixed, on the way in as on the way out."""
    texts = np.array([b"ab", b"\xff"], dtype=object)
    numbers = np.array([7, -8], np.int32)
    raw = write_raw(texts)
    inputs = [
        entry("n", "INT32", numbers, numbers.tobytes()),
        entry("t", "BYTES", texts, raw),
    ]
    async with serving(TEXTS) as service:
        request = {
            "inputs": inputs,
            "outputs": [{"name": "n"}, {"name": "t", "parameters": {"binary_data": True}}],
        }
        told, behind = cut(await ask(service, request, numbers.tobytes() + raw, "texts"))
    assert told["outputs"][0]["data"] == [7, -8]
    assert told["outputs"][1]["parameters"] == {"binary_data_size": len(raw)}
    assert behind == raw == b"\x02\0\0\0ab\x01\0\0\0\xff"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 12}, "has 12 bytes; shape [2, 2] of float32 is 16"),
        ({"size": 20}, "has binary_data_size 20; 16 bytes are left for it"),
        ({"size": -1}, "has binary_data_size -1"),
        ({"size": True}, "has binary_data_size True"),
        ({"size": "16"}, "has binary_data_size 16; 16 bytes"),
        ({"behind": b"x"}, "1 bytes behind its last tensor"),
        ({"extra": {"data": [1, 2, 3, 4]}}, "it may have one of them"),
        ({"extra": {"shape": [4, 1]}}, "has length 1 at axis 1; expected 2"),
        ({"extra": {"shape": [0, 2], "parameters": {"binary_data_size": 0}}, "behind": None}, "is empty"),
        ({"request": {"parameters": {"binary_data_output": "yes"}}}, "must be true or false"),
        ({"request": {"outputs": [{"name": "y", "parameters": [1]}]}}, "must be an object"),
    ],
    ids=lambda value: str(value)[:40],
)
@in_loop
async def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    """Too short, too long, something between or behind: a 400 with the numbers."""
    tensor = {**entry("x", "FP32", X, X.tobytes()), **change.get("extra", {})}
    if "size" in change:
        tensor["parameters"] = {"binary_data_size": change["size"]}
    behind = change.get("behind", b"")
    body = b"" if behind is None else X.tobytes()
    if change.get("size") == 12:
        body = body[:12]
    async with serving() as service:
        answer = await ask(service, {"inputs": [tensor], **change.get("request", {})}, body + (behind or b""))
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("size", ["-1", "x", "1.0", "", "9" * 30])
@in_loop
async def test_header_must_be_a_number_of_bytes(size: str) -> None:
    """Anything else is a 400 that says so."""
    async with serving() as service:
        answer = await ask(service, {"inputs": []}, b"", **{"Inference-Header-Content-Length": size})
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Inference-Header-Content-Length", ("14", "13")),
        ("Content-Encoding", ("gzip", "identity")),
        ("Content-Type", ("application/json", "application/octet-stream")),
    ],
)
@in_loop
async def test_header_that_says_two_things_is_refused(name: str, values: tuple[str, str]) -> None:
    """Two readers of such a request, one before the other, would read two different ones."""
    async with serving() as service:
        for order in (values, values[::-1]):
            answer = await service.infer(b'{"inputs": []}', headers=[(name, value) for value in order])
            assert answer.status_code == 400
            assert f"{name} is given twice" in answer.json()["error"]


@in_loop
async def test_header_beyond_the_body_is_refused() -> None:
    """JSON cannot be longer than the body that holds it."""
    async with serving() as service:
        answer = await ask(service, {"inputs": []}, b"", **{"Inference-Header-Content-Length": "999"})
    assert answer.status_code == 400
    assert "is 999; the body has 14 bytes" in answer.json()["error"]


@in_loop
async def test_raw_tensors_are_for_this_dialect_alone() -> None:
    """The native dialect refuses them, and bytes; in this one a body of bytes without the header is JSON, as clients send it."""
    async with serving() as service:
        raw = {"Inference-Header-Content-Length": "2", "Content-Type": "application/octet-stream"}
        bytes_alone = {"Content-Type": "application/octet-stream"}
        header_alone = {"Inference-Header-Content-Length": "2"}
        assert (await service.predict(b"{}", headers=raw)).status_code == 415
        refused = await service.predict(b"{}", headers=header_alone)
        assert (refused.status_code, "Inference-Header-Content-Length" in refused.text) == (415, True)
        assert (await service.predict(b"{}", headers=bytes_alone)).status_code == 415
        answer = await service.infer(b"{}", headers=bytes_alone)
        assert answer.status_code == 400
        assert "`inputs` must be a list of tensors" in answer.json()["error"]


@in_loop
async def test_byte_that_is_no_boolean_is_refused() -> None:
    """0 and 1 are; what else a byte may be would mean one thing to an engine and another to the next."""
    model = Model(inputs={"x": "bool[batch]"}, outputs={"x": "bool[batch]"}, function=dict)
    flags = np.array([True, False])
    async with serving(model) as service:
        request = {"inputs": [entry("x", "BOOL", flags, b"\1\0")], "parameters": {"binary_data_output": True}}
        _, raw = cut(await ask(service, request, b"\1\0"))
        assert raw == b"\1\0"
        answer = await ask(service, request, b"\1\2")
        assert answer.status_code == 400
        assert "neither 0 nor 1" in answer.json()["error"]


@in_loop
async def test_nan_goes_in_and_out_raw() -> None:
    """The protocol permits it."""
    odd = np.array([[np.nan, np.inf]], np.float32)
    async with serving() as service:
        request = {
            "inputs": [entry("x", "FP32", odd, odd.tobytes())],
            "parameters": {"binary_data_output": True},
        }
        _, raw = cut(await ask(service, request, odd.tobytes()))
    assert np.array_equal(np.frombuffer(raw, np.float32), odd[0], equal_nan=True)


@given(st.data())
def test_every_type_comes_back_as_it_was(data: st.DataObject) -> None:
    """Written and read again, elements, shape and type are the same."""
    dtype = data.draw(st.sampled_from([name for name in DTYPES if name != "bytes"]))
    shapes = arrays.array_shapes(max_dims=4, min_side=0)
    array = data.draw(
        arrays.arrays(DTYPES[dtype], shapes, elements=values_of(DTYPES[dtype]), fill=st.nothing())
    )
    spec = TensorSpec("x", dtype, tuple("abcdefgh"[: array.ndim]))
    back = read_raw(memoryview(write_raw(array)), spec, list(array.shape))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.binary(max_size=20), max_size=8), st.binary(max_size=40))
def test_strings_come_back_or_are_refused(texts: list[bytes], noise: bytes) -> None:
    """What was written reads as it was; whatever else the bytes are, it is strings that fill them or an error of ours."""
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    spec = TensorSpec("t", "bytes", ("n",))
    assert read_raw(memoryview(write_raw(array)), spec, [len(texts)]).tolist() == texts
    try:
        found = read_raw(memoryview(noise), spec, [2])
    except InvalidRequest:
        return
    assert b"".join(struct.pack("<I", len(text)) + text for text in found) == noise
