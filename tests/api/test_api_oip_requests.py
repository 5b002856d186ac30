"""What clients of the Open Inference Protocol say beside tensors, and tensors that come in other forms."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.harness import Model, in_loop, serving
from tests.api.test_api_raw_tensors import X, ask, cut, entry

from maas.api.oip.raw_tensors import read_lone, read_raw
from maas.errors import InvalidRequest
from maas.types import TensorSpec

PLAIN = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


@pytest.mark.parametrize("value", ["text", 1, 1.5, True])
@pytest.mark.parametrize("place", ["request", "input", "output"])
@in_loop
async def test_parameters_are_strings_numbers_and_booleans(value: object, place: str) -> None:
    """Parameters that nobody here knows are let through, of the request as of a tensor; what is nested or null is refused."""

    def body(value: object) -> dict[str, Any]:
        own = {"parameters": {"custom": value}}
        return {
            "inputs": [{**PLAIN, **(own if place == "input" else {})}],
            "outputs": [{"name": "y", **(own if place == "output" else {})}],
            **(own if place == "request" else {}),
        }

    async with serving() as service:
        taken = await service.infer(body(value))
        refused = [await service.infer(body(bad)) for bad in ([1], {"a": 1}, None)]
    assert taken.status_code == 200, taken.text
    for answer in refused:
        assert answer.status_code == 400
        assert "parameter 'custom'" in answer.json()["error"]
        assert "a string, a number or a boolean" in answer.json()["error"]


@pytest.mark.parametrize(
    ("priority", "order"), [(1, ["fast", "plain"]), (3, ["plain", "fast"]), (0, ["plain", "fast"])]
)
@in_loop
async def test_priority_decides_who_goes_first(priority: int, order: list[str]) -> None:
    """A request with `priority` 1 passes a standard one that came before it; with 3 or 0 it does not."""
    done: list[str] = []
    async with serving(Model(max_batch_size=1, seconds=0.02)) as service:

        async def send(name: str, **parameters: int) -> None:
            answer = await service.infer({"inputs": [PLAIN], "parameters": parameters})
            assert answer.status_code == 200, answer.text
            done.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(send("first"))
            await service.until_running(1)
            group.create_task(send("plain"))
            await service.until_waiting(1)
            group.create_task(send("fast", priority=priority))
            await service.until_waiting(2)
    assert [name for name in done if name != "first"] == order


@pytest.mark.parametrize("priority", [-1, 4, 1.0, True, "1"])
@in_loop
async def test_unknown_priority_is_refused(priority: object) -> None:
    """There are three priorities and the default."""
    async with serving() as service:
        answer = await service.infer({"inputs": [PLAIN], "parameters": {"priority": priority}})
    assert answer.status_code == 400
    assert "'priority'" in answer.json()["error"]


@pytest.mark.parametrize(
    ("microseconds", "status"),
    [(0, 200), (30_000_000, 200), (-1, 400), (True, 400), ("x", 400), ("30000000", 400)],
)
@in_loop
async def test_timeout_is_microseconds_and_0_asks_for_none(microseconds: object, status: int) -> None:
    """Clients that were given none send 0."""
    async with serving() as service:
        answer = await service.infer({"inputs": [PLAIN], "parameters": {"timeout": microseconds}})
    assert answer.status_code == status
    assert status == 200 or "'timeout'" in answer.json()["error"]


@in_loop
async def test_shared_memory_is_refused_by_name() -> None:
    """A tensor that lies in shared memory is not looked for: the refusal says which extension is missing."""
    lying = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, 2],
        "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8},
    }
    async with serving() as service:
        answer = await service.infer({"inputs": [lying]})
    assert answer.status_code == 400
    assert "shared memory" in answer.json()["error"]


@in_loop
async def test_classification_is_refused_by_name() -> None:
    """A client that asks for classes would take numbers for them."""
    async with serving() as service:
        classes = {"name": "y", "parameters": {"classification": 1}}
        answer = await service.infer({"inputs": [PLAIN], "outputs": [classes]})
    assert answer.status_code == 400
    assert "parameter 'classification' of output 'y'" in answer.json()["error"]


@in_loop
async def test_bf16_is_read_for_float32() -> None:
    """A float32 model takes BF16, raw or as JSON numbers, and answers FP32."""
    bits = (X.view(np.uint32) >> 16).astype("<u2")
    async with serving() as service:
        raw = await ask(service, {"inputs": [entry("x", "BF16", X, bits.tobytes())]}, bits.tobytes())
        plain = await service.infer({"inputs": [{**PLAIN, "datatype": "BF16"}]})
        short = await ask(service, {"inputs": [entry("x", "BF16", X, b"1234")]}, b"1234")
    assert raw.json()["outputs"][0] == {
        "name": "y",
        "datatype": "FP32",
        "shape": [2, 2],
        "data": [2, 4, 6, 8],
    }
    assert plain.json()["outputs"][0]["data"] == [2, 4]
    assert (short.status_code, short.json()["error"]) == (
        400,
        "input 'x' has 4 bytes; shape [2, 2] of BF16 is 8",
    )


@in_loop
async def test_bf16_is_for_bfloat16_and_float32_alone() -> None:
    """Of the other dtypes none holds every number that BF16 has; and bfloat16 holds not every one of FP32."""
    model = Model(inputs={"x": "float16[batch, 2]"}, outputs={"y": "float16[batch, 2]"})
    async with serving(model) as service:
        answer = await service.infer({"inputs": [{**PLAIN, "datatype": "BF16"}]})
    async with serving(
        Model(inputs={"x": "bfloat16[batch, 2]"}, outputs={"y": "bfloat16[batch, 2]"})
    ) as service:
        wide = await service.infer({"inputs": [PLAIN]})
    assert (answer.status_code, "expected FP16" in answer.json()["error"]) == (400, True)
    assert (wide.status_code, "expected BF16" in wide.json()["error"]) == (400, True)


@in_loop
async def test_bfloat16_model_speaks_bf16() -> None:
    """In JSON and raw, both ways; the metadata names it; one raw tensor may be the whole body."""
    bits = (X.view(np.uint32) >> 16).astype("<u2").tobytes()
    declared = "bfloat16[batch, 2]"
    model = Model(
        inputs={"x": declared},
        outputs={"y": declared},
        function=lambda x: {"y": x["x"] * x["x"].dtype.type(2)},
    )
    asked_raw = {"inputs": [entry("x", "BF16", X, bits)], "parameters": {"binary_data_output": True}}
    async with serving(model) as service:
        metadata = (await service.get("/v2/models/double")).json()
        plain = await service.infer({"inputs": [{**PLAIN, "datatype": "BF16", "data": [0.1, 3]}]})
        over = await service.infer({"inputs": [{**PLAIN, "datatype": "BF16", "data": [1, 3.4e38]}]})
        head, raw = cut(await ask(service, asked_raw, bits))
        lone = await service.infer(bits, headers={"Inference-Header-Content-Length": "0"})
    assert [tensor["datatype"] for tensor in (*metadata["inputs"], *metadata["outputs"])] == ["BF16", "BF16"]
    assert plain.json()["outputs"] == [
        {"name": "y", "datatype": "BF16", "shape": [1, 2], "data": [0.20019531, 6.0]}
    ]
    assert (over.status_code, "overflows bfloat16" in over.json()["error"]) == (400, True)
    assert (head["outputs"][0]["datatype"], head["outputs"][0]["parameters"]) == (
        "BF16",
        {"binary_data_size": 8},
    )
    doubled = ((2 * X).view(np.uint32) >> 16).astype("<u2").tobytes()
    assert raw == cut(lone)[1] == doubled


@in_loop
async def test_bfloat16_follows_the_rules_of_non_finite_numbers() -> None:
    """The protocol takes and gives them as bare literals; the native dialect refuses them, and has a model fail that gives any."""
    declared = "bfloat16[batch, 2]"
    model = Model(
        inputs={"x": declared}, outputs={"y": declared}, function=lambda x: {"y": x["x"] / (x["x"] - x["x"])}
    )
    odd = b'{"inputs": [{"name": "x", "datatype": "BF16", "shape": [1, 2], "data": [-Infinity, NaN]}]}'
    with np.errstate(all="ignore"):
        async with serving(model) as service:
            taken = await service.infer(odd)
            given_ = await service.infer({"inputs": [{**PLAIN, "datatype": "BF16", "data": [1, 0]}]})
            refused = await service.predict(b'{"x": [NaN, 1]}')
            failed = await service.predict({"x": [1, 0]})
    assert (taken.status_code, b'"data":[NaN,NaN]' in taken.content) == (200, True)
    assert (given_.status_code, b'"data":[Infinity,NaN]' in given_.content) == (200, True)
    assert refused.status_code == 400
    assert (failed.status_code, failed.json()["code"]) == (500, "non_finite_output")


@given(st.binary(min_size=2, max_size=64).filter(lambda raw: len(raw) % 2 == 0))
def test_every_bf16_is_its_float32(raw: bytes) -> None:
    """Whatever the bits: the upper half of a float32, the lower one zero."""
    spec = TensorSpec.parse("x", "float32[n]")
    array = read_raw(memoryview(raw), spec, [len(raw) // 2], is_bf16=True)
    expected = b"".join(b"\0\0" + raw[at : at + 2] for at in range(0, len(raw), 2))
    assert array.dtype == np.float32
    assert array.astype("<f4").tobytes() == expected


@in_loop
async def test_request_may_be_one_raw_tensor() -> None:
    """Without JSON the body is the one input, its rows told by its size; the answer is raw."""
    async with serving() as service:
        answer = await service.infer(X.tobytes(), headers={"Inference-Header-Content-Length": "0"})
        odd = await service.infer(b"12345", headers={"Inference-Header-Content-Length": "0"})
        empty = await service.infer(b"", headers={"Inference-Header-Content-Length": "0"})
    told, raw = cut(answer)
    assert told["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    ]
    assert raw == (X * 2).tobytes()
    assert (odd.status_code, empty.status_code) == (400, 400)


@in_loop
async def test_lone_raw_tensor_needs_a_model_of_one_input() -> None:
    """With two inputs nobody can tell which it is."""
    two = Model(inputs={"x": "float32[batch]", "z": "float32[batch]"}, outputs={"y": "float32[batch]"})
    async with serving(two) as service:
        answer = await service.infer(b"1234", headers={"Inference-Header-Content-Length": "0"})
    assert (answer.status_code, "2 inputs" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("declaration", "data", "shape"),
    [
        ("float32[2]", b"\0" * 8, [2]),
        ("float32[batch, n]", b"\0" * 12, [1, 3]),
        ("float32[n, 2]", b"\0" * 16, [2, 2]),
        ("bytes[batch, 1]", b"any text", [1, 1]),
        ("float32[]", b"\0" * 4, []),
    ],
)
def test_shape_of_a_lone_tensor_follows_from_its_size(
    declaration: str, data: bytes, shape: list[int]
) -> None:
    """One dimension is found; beside another variable one the batch has one row; a string is the whole body."""
    array = read_lone(memoryview(data), TensorSpec.parse("x", declaration))
    assert list(array.shape) == shape
    if array.dtype.hasobject:
        assert array.item() == data


@pytest.mark.parametrize("type_", ["application/octet-stream", "Application/Octet-Stream; a=b"])
@in_loop
async def test_header_decides_what_the_body_is(type_: str) -> None:
    """A client that calls JSON octets is understood here, where the header of the JSON's size is missing; natively not."""
    async with serving() as service:
        here = await service.infer({"inputs": [PLAIN]}, headers={"Content-Type": type_})
        native = await service.predict({"x": [1, 2]}, headers={"Content-Type": type_})
    assert (here.status_code, native.status_code) == (200, 415)


@pytest.mark.parametrize(
    ("declaration", "data"), [("float32[n, m]", b"\0" * 8), ("float32[2]", b"\0" * 4), ("bytes[2]", b"a")]
)
def test_shape_that_does_not_follow_is_refused(declaration: str, data: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidRequest):
        read_lone(memoryview(data), TensorSpec.parse("x", declaration))


@pytest.mark.parametrize(("dtype", "datatype"), [("uint64", "UINT64"), ("int64", "INT64")])
@in_loop
async def test_whole_numbers_of_64_bits_are_exact(dtype: str, datatype: str) -> None:
    """Above 2^53, where floats would lose them; and one beyond the range is refused, never wrapped."""
    limits = np.iinfo(dtype)
    values = [int(limits.max), int(limits.max) - 1, (1 << 53) + 1, int(limits.min)]
    model = Model(
        inputs={"x": f"{dtype}[batch]"},
        outputs={"y": f"{dtype}[batch]"},
        function=lambda tensors: {"y": tensors["x"]},
    )
    entry = {"name": "x", "datatype": datatype, "shape": [4]}
    async with serving(model) as service:
        answer = await service.infer({"inputs": [{**entry, "data": values}]})
        over = await service.infer({"inputs": [{**entry, "data": [*values[:3], limits.max + 1]}]})
    assert json.loads(answer.content)["outputs"][0]["data"] == values
    assert over.status_code == 400


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        ([7.0, -8.0], [7, -8]),
        ([7, 8.0], [7, 8]),
        ([7.5, 8.0], None),
        ([1e30, 8.0], None),
        ([float(1 << 31), 8.0], None),
        ([7.0, True], None),
        ([7.0, float("nan")], None),
        ([7.0, "8"], None),
        ([[7.0], 8.0], None),
    ],
)
@in_loop
async def test_integers_may_be_written_as_floats(data: list[Any], taken: list[int] | None) -> None:
    """A generated client writes 7 as 7.0; what is no whole number, or none that the dtype holds, is refused as ever."""
    model = Model(
        inputs={"x": "int32[batch]"},
        outputs={"y": "int32[batch]"},
        function=lambda tensors: {"y": tensors["x"]},
    )

    async with serving(model) as service:
        body = {"inputs": [{"name": "x", "datatype": "INT32", "shape": [2], "data": data}]}
        answer = await service.infer(json.dumps(body).encode())
    if taken is None:
        assert answer.status_code == 400, answer.text
    else:
        assert answer.json()["outputs"][0]["data"] == taken


@pytest.mark.parametrize("data", [[float((1 << 53) - 1), 1.0], [float(1 << 53), 1.0]])
@in_loop
async def test_floats_that_are_several_integers_are_refused(data: list[float]) -> None:
    """From 2^53 on a float may be any of several whole numbers, and which was meant is not guessed."""
    model = Model(
        inputs={"x": "int64[batch]"},
        outputs={"y": "int64[batch]"},
        function=lambda tensors: {"y": tensors["x"]},
    )
    async with serving(model) as service:
        entry = {"name": "x", "datatype": "INT64", "shape": [2], "data": data}
        answer = await service.infer({"inputs": [entry]})
    assert answer.status_code == (200 if data[0] < 1 << 53 else 400)
