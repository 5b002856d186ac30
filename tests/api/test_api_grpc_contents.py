"""Tensors and parameters over gRPC, to their edges."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from tests.api.grpc_harness import floats, rows, serving_grpc, tensor
from tests.api.harness import Model, in_loop

from maas.api.grpc.messages import InferParameter, ModelInferRequest

REQUESTED = ModelInferRequest.InferRequestedOutputTensor


def same(declaration: str, **options: Any) -> Model:
    """A model that answers with what it was given."""
    return Model(
        inputs={"x": declaration}, outputs={"y": declaration}, function=lambda x: {"y": x["x"]}, **options
    )


def raw(datatype: str, shape: list[int], content: bytes, **request: Any) -> ModelInferRequest:
    return ModelInferRequest(
        **{"model_name": "double", **request},
        inputs=[tensor("x", datatype, shape)],
        raw_input_contents=[content],
    )


def typed(datatype: str, shape: list[int], **contents: Any) -> ModelInferRequest:
    return ModelInferRequest(model_name="double", inputs=[tensor("x", datatype, shape, **contents)])


async def refused(model: Model, request: ModelInferRequest) -> str:
    async with serving_grpc(model) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


RAW: list[tuple[str, str, list[Any]]] = [
    ("bool", "BOOL", [True, False]),
    ("uint8", "UINT8", [0, 255]),
    ("uint16", "UINT16", [0, 65535]),
    ("uint32", "UINT32", [0, 2**32 - 1]),
    ("uint64", "UINT64", [0, 2**64 - 1]),
    ("int8", "INT8", [-128, 127]),
    ("int16", "INT16", [-(2**15), 2**15 - 1]),
    ("int32", "INT32", [-(2**31), 2**31 - 1]),
    ("int64", "INT64", [-(2**63), 2**63 - 1]),
    ("float16", "FP16", [0.5, 65504.0]),
    ("float32", "FP32", [0.5, np.inf]),
    ("float64", "FP64", [0.1, -1e300]),
]


@pytest.mark.parametrize(("dtype", "datatype", "values"), RAW, ids=[case[1] for case in RAW])
@in_loop
async def test_raw_contents_are_exact(dtype: str, datatype: str, values: list[Any]) -> None:
    """Of each datatype, to its ends, and back."""
    content = np.array([values], dtype).tobytes()
    async with serving_grpc(same(f"{dtype}[batch, 2]")) as service:
        answer = await service.infer(raw(datatype, [1, 2], content))
        assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [1, 2])
        assert list(answer.raw_output_contents) == [content]


@in_loop
async def test_bf16_is_read_where_float32_is_taken() -> None:
    """As over REST: it is the upper half of a float32. The answer is what the model declares."""
    async with serving_grpc() as service:
        answer = await service.infer(raw("BF16", [1, 2], b"\x80\x3f\x00\xc0"))
        assert answer.outputs[0].datatype == "FP32"
        assert floats(answer) == [[2, -4]]


@in_loop
async def test_not_a_number_goes_through() -> None:
    """The protocol takes and gives what is not finite."""
    async with serving_grpc() as service:
        answer = await service.infer(rows([float("nan"), float("-inf")]))
        first, second = floats(answer)[0]
        assert np.isnan(first)
        assert second == -np.inf


@in_loop
async def test_scalar_has_the_empty_shape() -> None:
    """A tensor without dimensions is one element, typed or raw."""
    async with serving_grpc(same("int64[]", max_batch_size=1)) as service:
        for request in (
            typed("INT64", [], int64_contents=[7]),
            raw("INT64", [], np.int64(7).tobytes()),
        ):
            answer = await service.infer(request)
            assert list(answer.outputs[0].shape) == []
            assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [7]


WRONG: list[tuple[str, str, ModelInferRequest, str]] = [
    ("typed FP16", "float16", typed("FP16", [1, 2], fp32_contents=[1, 2]), "send raw ones"),
    ("typed BF16", "float32", typed("BF16", [1, 2], fp32_contents=[1, 2]), "BF16, which has no typed"),
    ("BF16 for a double", "float64", raw("BF16", [1, 2], bytes(4)), "expected FP64"),
    ("BF16 of a wrong length", "float32", raw("BF16", [1, 2], bytes(8)), "BF16 is 4"),
    ("raw bytes too few", "float32", raw("FP32", [1, 2], bytes(7)), "has 7 bytes"),
    ("raw bytes too many", "int64", raw("INT64", [1, 2], bytes(17)), "has 17 bytes"),
    ("a truth that is 2", "bool", raw("BOOL", [1, 2], b"\x01\x02"), "neither 0 nor 1"),
    ("strings cut short", "bytes", raw("BYTES", [1, 2], b"\x09\0\0\0abc"), "ends within"),
    ("INT8 of 128", "int8", typed("INT8", [1, 2], int_contents=[1, 128]), "out of the range"),
    ("INT16 of -32769", "int16", typed("INT16", [1, 2], int_contents=[-32769, 0]), "out of the range"),
    ("UINT8 of 256", "uint8", typed("UINT8", [1, 2], uint_contents=[256, 0]), "out of the range"),
    ("UINT8 in int_contents", "uint8", typed("UINT8", [1, 2], int_contents=[1, 2]), "uint_contents"),
    (
        "two fields",
        "int64",
        typed("INT64", [1, 2], int64_contents=[1, 2], int_contents=[1]),
        "int_contents",
    ),
    ("no contents", "int64", typed("INT64", [1, 2]), "has 0"),
    ("a shape too large", "int64", typed("INT64", [2**62, 2**62], int64_contents=[1]), "elements"),
]


@pytest.mark.parametrize(
    ("dtype", "request_", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
@in_loop
async def test_contents_that_do_not_fit_are_refused(
    dtype: str, request_: ModelInferRequest, said: str
) -> None:
    """Nothing is wrapped, cut or guessed."""
    assert said in await refused(same(f"{dtype}[batch, 2]"), request_)


@in_loop
async def test_empty_batch_is_refused_as_over_rest() -> None:
    """Whether its contents are raw or typed."""
    for request in (raw("FP32", [0, 2], b""), typed("FP32", [0, 2])):
        assert "is empty" in await refused(Model(), request)


@in_loop
async def test_empty_model_name_is_not_found() -> None:
    async with serving_grpc() as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([1, 2], model_name=""))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@in_loop
async def test_versions_are_texts() -> None:
    """Any version that was published may be named; what is none is not found."""
    async with serving_grpc(Model(version="1.10"), Model(version="candidate")) as service:
        for version in ("1.10", "candidate"):
            answer = await service.infer(rows([1, 2], model_version=version))
            assert answer.model_version == version
        assert (await service.infer(rows([1, 2]))).model_version == "1.10"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([1, 2], model_version="-1"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@in_loop
async def test_parameters_of_every_kind_are_taken() -> None:
    """A string, a boolean, whole numbers of both kinds and a float; what the server does not know changes nothing."""
    request = rows([1, 2])
    for owner in (request, request.inputs[0]):
        owner.parameters["text"].string_param = "a"
        owner.parameters["flag"].bool_param = True
        owner.parameters["signed"].int64_param = -(2**63)
        owner.parameters["unsigned"].uint64_param = 2**64 - 1
        owner.parameters["number"].double_param = 0.5
    request.outputs.append(REQUESTED(name="y"))
    request.outputs[0].parameters["text"].string_param = "a"
    async with serving_grpc() as service:
        assert floats(await service.infer(request)) == [[2, 4]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", {"int64_param": 4}),
        ("priority", {"uint64_param": 2**64 - 1}),
        ("priority", {"string_param": "1"}),
        ("timeout", {"int64_param": -1}),
        ("timeout", {"string_param": "100"}),
        ("nothing", {}),
        ("shared_memory_region", {"string_param": "a"}),
    ],
)
@in_loop
async def test_parameter_that_cannot_be_read_is_named(name: str, value: dict[str, Any]) -> None:
    """As over REST."""
    request = rows([1, 2])
    request.parameters[name].CopyFrom(InferParameter(**value))
    assert name in await refused(Model(), request)


@pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
@in_loop
async def test_output_that_is_asked_for_otherwise_is_refused(name: str) -> None:
    """An extension that would change the answer and is not served is named."""
    request = rows([1, 2], outputs=[REQUESTED(name="y")])
    request.outputs[0].parameters[name].int64_param = 1
    assert "extension is not served" in await refused(Model(), request)


@pytest.mark.parametrize(("microseconds", "is_in_time"), [(0, True), (50_000, False), (20_000_000, True)])
@in_loop
async def test_timeout_is_in_microseconds(microseconds: int, is_in_time: bool) -> None:
    """0 is none."""
    async with serving_grpc(Model(seconds=0.5)) as service:
        request = rows([1, 2])
        request.parameters["timeout"].int64_param = microseconds
        if is_in_time:
            assert floats(await service.infer(request)) == [[2, 4]]
            return
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(request)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "deadline_exceeded"


@in_loop
async def test_priority_puts_a_request_before_others() -> None:
    """1 is the highest and runs before 3, which came first."""
    async with serving_grpc(Model(seconds=0.2, max_batch_size=1)) as service:
        order: list[int] = []

        async def ask(priority: int) -> None:
            request = rows([1, 2])
            request.parameters["priority"].uint64_param = priority
            await service.infer(request)
            order.append(priority)

        running = service.infer(rows([0, 0]))
        await service.service.until_running(1)
        async with asyncio.TaskGroup() as group:
            for waiting, priority in enumerate((3, 2, 1), 1):
                group.create_task(ask(priority))
                await service.service.until_waiting(waiting)
        await running
        assert order == [1, 2, 3]
