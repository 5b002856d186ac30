"""The Open Inference Protocol over gRPC: health, metadata, inference."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from tests.api.grpc_harness import floats, rows, serving_grpc, tensor
from tests.api.harness import Model, in_loop

import maas
from maas.api.grpc.messages import (
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
)
from maas.dtypes import DTYPES


@in_loop
async def test_live_and_ready() -> None:
    """A server that runs is live, and ready when a model is; a model by its own state."""
    async with serving_grpc(Model(), Model(name="broken", state="failed", reason="it is odd")) as service:
        assert (await service.call("ServerLive")).live
        assert (await service.call("ServerReady")).ready
        assert (await service.call("ModelReady", ModelReadyRequest(name="double"))).ready
        assert (await service.call("ModelReady", ModelReadyRequest(name="double", version="1"))).ready
        assert not (await service.call("ModelReady", ModelReadyRequest(name="broken"))).ready


@in_loop
async def test_server_that_leaves_is_live_and_not_ready() -> None:
    """From the first signal on nobody is to be sent here, though calls are answered."""
    async with serving_grpc() as service:
        service.service.gateway.is_leaving = True
        assert (await service.call("ServerLive")).live
        assert not (await service.call("ServerReady")).ready
        assert floats(await service.infer(rows([1, 2]))) == [[2, 4]]


@in_loop
async def test_metadata() -> None:
    """The server has its name and version; a model its versions and tensors, with -1 for what is not fixed."""
    models = Model(inputs={"x": "float32[batch, 2]", "s": "bytes[n]"}), Model(version="2")
    async with serving_grpc(*models) as service:
        server = await service.call("ServerMetadata")
        assert (server.name, server.version) == ("maas", maas.__version__)
        model = await service.call("ModelMetadata", ModelMetadataRequest(name="double", version="1"))
        assert (model.name, list(model.versions), model.platform) == ("double", ["1", "2"], "fake")
        assert [(i.name, i.datatype, list(i.shape)) for i in model.inputs] == [
            ("x", "FP32", [-1, 2]),
            ("s", "BYTES", [-1]),
        ]
        assert [(o.name, o.datatype, list(o.shape)) for o in model.outputs] == [("y", "FP32", [-1, 2])]
        assert model.properties["version"] == "1"


@in_loop
async def test_raw_tensors_come_and_go() -> None:
    """Raw contents are read, the answer is raw, and names its model, version and the request's id."""
    async with serving_grpc() as service:
        answer = await service.infer(rows([1, 2], [3, 4], id="mine"))
        assert (answer.model_name, answer.model_version, answer.id) == ("double", "1", "mine")
        assert floats(answer) == [[2, 4], [6, 8]]
        assert not answer.outputs[0].HasField("contents")


@in_loop
async def test_bfloat16_comes_and_goes_raw() -> None:
    """There is no field for its typed contents; those of another type are refused, as for FP16."""
    declared = "bfloat16[batch, 2]"
    model = Model(inputs={"x": declared}, outputs={"y": declared}, function=lambda x: {"y": x["x"]})
    bits = np.array([[1.5, -0.1]], DTYPES["bfloat16"]).tobytes()
    request = ModelInferRequest(
        model_name="double", inputs=[tensor("x", "BF16", [1, 2])], raw_input_contents=[bits]
    )
    typed = ModelInferRequest(model_name="double", inputs=[tensor("x", "BF16", [1, 2], fp32_contents=[1, 2])])
    async with serving_grpc(model) as service:
        answer = await service.infer(request)
        with pytest.raises(grpc.aio.AioRpcError, match="which has no typed contents") as caught:
            await service.infer(typed)
    assert (answer.outputs[0].datatype, answer.raw_output_contents[0]) == ("BF16", bits)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


TYPED: list[tuple[str, str, str, list[Any]]] = [
    ("bool", "BOOL", "bool_contents", [True, False]),
    ("uint8", "UINT8", "uint_contents", [0, 255]),
    ("uint16", "UINT16", "uint_contents", [0, 65535]),
    ("uint32", "UINT32", "uint_contents", [0, 2**32 - 1]),
    ("uint64", "UINT64", "uint64_contents", [0, 2**64 - 1]),
    ("int8", "INT8", "int_contents", [-128, 127]),
    ("int16", "INT16", "int_contents", [-(2**15), 2**15 - 1]),
    ("int32", "INT32", "int_contents", [-(2**31), 2**31 - 1]),
    ("int64", "INT64", "int64_contents", [-(2**63), 2**63 - 1]),
    ("float32", "FP32", "fp32_contents", [0.5, float("inf")]),
    ("float64", "FP64", "fp64_contents", [0.1, -1e300]),
]


@pytest.mark.parametrize(("dtype", "datatype", "field", "values"), TYPED, ids=[case[0] for case in TYPED])
@in_loop
async def test_typed_contents_are_exact(dtype: str, datatype: str, field: str, values: list[Any]) -> None:
    """Each datatype is read from its field, to its ends, and comes back as it was."""
    declaration = f"{dtype}[batch, 2]"
    model = Model(inputs={"x": declaration}, outputs={"y": declaration}, function=lambda x: {"y": x["x"]})
    async with serving_grpc(model) as service:
        given = tensor("x", datatype, [1, 2], **{field: values})
        answer = await service.infer(ModelInferRequest(model_name="double", inputs=[given]))
        assert answer.outputs[0].datatype == datatype
        assert np.frombuffer(answer.raw_output_contents[0], dtype).tolist() == values


@pytest.mark.parametrize("is_raw", [False, True], ids=["typed", "raw"])
@in_loop
async def test_strings(is_raw: bool) -> None:
    """Bytes of any kind come as typed contents or raw with their lengths, and go raw."""
    model = Model(
        inputs={"x": "bytes[batch, 2]"},
        outputs={"y": "bytes[batch, 2]"},
        function=lambda x: {"y": x["x"]},
    )
    raw = b"\x02\0\0\0\xff\0" + b"\0\0\0\0"
    request = ModelInferRequest(
        model_name="double",
        inputs=[tensor("x", "BYTES", [1, 2], **({} if is_raw else {"bytes_contents": [b"\xff\0", b""]}))],
        raw_input_contents=[raw] if is_raw else [],
    )
    async with serving_grpc(model) as service:
        assert list((await service.infer(request)).raw_output_contents) == [raw]


@in_loop
async def test_outputs_are_chosen_in_their_order() -> None:
    """All outputs by default; else those that are asked for, in that order, and once."""
    model = Model(
        outputs={"y": "float32[batch, 2]", "z": "float32[batch, 2]"},
        function=lambda x: {"y": x["x"], "z": -x["x"]},
    )
    chosen = ModelInferRequest.InferRequestedOutputTensor
    async with serving_grpc(model) as service:
        assert [o.name for o in (await service.infer(rows([1, 2]))).outputs] == ["y", "z"]
        request = rows([1, 2], outputs=[chosen(name="z"), chosen(name="y"), chosen(name="z")])
        answer = await service.infer(request)
        assert [o.name for o in answer.outputs] == ["z", "y"]
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [-1, -2]


INT8 = Model(inputs={"x": "int8[batch, 2]"}, outputs={"y": "int8[batch, 2]"})
WRONG: list[tuple[str, ModelInferRequest, str]] = [
    ("no input", ModelInferRequest(model_name="double"), "x"),
    (
        "datatype",
        ModelInferRequest(model_name="double", inputs=[tensor("x", "FP32", [1, 2])]),
        "expected INT8",
    ),
    (
        "range",
        ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [1, 2], int_contents=[1, 128])]),
        "out of the range",
    ),
    (
        "count",
        ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [1, 2], int_contents=[1])]),
        "2 elements",
    ),
    (
        "field",
        ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [1, 2], fp32_contents=[1, 2])]),
        "int_contents",
    ),
    (
        "both",
        ModelInferRequest(
            model_name="double",
            inputs=[tensor("x", "INT8", [1, 2], int_contents=[1, 2])],
            raw_input_contents=[b"12"],
        ),
        "one of them",
    ),
    (
        "raw entries",
        ModelInferRequest(
            model_name="double", inputs=[tensor("x", "INT8", [1, 2])], raw_input_contents=[b"12", b"12"]
        ),
        "one for each",
    ),
    (
        "twice",
        ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [1, 2])] * 2),
        "given twice",
    ),
    ("length", ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [-1, 2])]), "at least 0"),
    ("rank", ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [2])]), "1 dimensions"),
    ("empty", ModelInferRequest(model_name="double", inputs=[tensor("x", "INT8", [0, 2])]), "is empty"),
    (
        "output",
        ModelInferRequest(
            model_name="double",
            inputs=[tensor("x", "INT8", [1, 2], int_contents=[1, 2])],
            outputs=[ModelInferRequest.InferRequestedOutputTensor(name="q")],
        ),
        "unknown output 'q'",
    ),
    (
        "priority",
        ModelInferRequest(
            model_name="double",
            inputs=[tensor("x", "INT8", [1, 2], int_contents=[1, 2])],
            parameters={"priority": {"int64_param": 4}},  # type: ignore[dict-item]
        ),
        "priority",
    ),
]


@pytest.mark.parametrize(("what", "request_", "said"), WRONG, ids=[case[0] for case in WRONG])
@in_loop
async def test_wrong_request_is_an_invalid_argument(
    what: str, request_: ModelInferRequest, said: str
) -> None:
    """What is wrong is said in a sentence that names it, and nothing ran."""
    async with serving_grpc(INT8) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(request_)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert said in caught.value.details()
        assert not service.service.instances["double/1"].batches


@in_loop
async def test_unknown_model_is_not_found() -> None:
    """By any call that names it, and by its version too."""
    async with serving_grpc() as service:
        for call in (
            service.infer(rows([1, 2], model_name="none")),
            service.infer(rows([1, 2], model_version="7")),
            service.call("ModelMetadata", ModelMetadataRequest(name="none")),
            service.call("ModelReady", ModelReadyRequest(name="none")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@in_loop
async def test_bytes_that_are_no_message_are_an_invalid_argument() -> None:
    """What cannot be parsed is the caller's fault, and is said as such."""
    async with serving_grpc() as service:
        call = service.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff\xff", timeout=10)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
