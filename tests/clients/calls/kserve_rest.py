"""`kserve.InferenceRESTClient`, with version 2 of the protocol, binary and JSON, and version 1."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tests.clients.arrays import ARRAYS, DATATYPES, as_text
from tests.clients.call import Addresses


def _connect(protocol: str = "v2") -> InferenceRESTClient:
    return InferenceRESTClient(RESTConfig(protocol=protocol, retries=0, timeout=20))


def _request(model: str, array: np.ndarray, binary: bool, name: str = "x", **options: object) -> InferRequest:
    tensor = InferInput(name, list(array.shape), DATATYPES.get(array.dtype.name, "BYTES"))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [tensor], **options)


async def is_live_ready_and_knows_models(addresses: Addresses) -> None:
    """Health; a model that is there and one that is not."""
    async with _connect() as server:
        assert await server.is_server_live(addresses.url)
        assert await server.is_server_ready(addresses.url)
        assert await server.is_model_ready(addresses.url, "add_sub")
        assert not await server.is_model_ready(addresses.url, "nothing")


async def infers_every_datatype_binary(addresses: Addresses) -> None:
    """What goes in comes out, binary both ways; it decodes texts itself."""
    async with _connect() as server:
        for name, array in ARRAYS.items():
            model = f"identity_{name}"
            wanted = [RequestedOutput("y", {"binary_data": True})]
            request = _request(model, array, binary=True, request_outputs=wanted)
            response = await server.infer(addresses.url, request, model_name=model)
            np.testing.assert_array_equal(response.outputs[0].as_numpy(), as_text(array), name)


async def infers_every_datatype_json(addresses: Addresses) -> None:
    """The same in JSON; it has no JSON of FP16."""
    async with _connect() as server:
        for name, array in ARRAYS.items():
            if name == "float16":
                continue
            model = f"identity_{name}"
            request = _request(model, array, binary=False, request_id="mine")
            response = await server.infer(addresses.url, request, model_name=model)
            assert response.id == "mine"
            assert response.model_name == model
            got = np.array(response.outputs[0].data, array.dtype).reshape(array.shape)
            np.testing.assert_array_equal(got, as_text(array), name)


async def infers_a_chosen_output(addresses: Addresses) -> None:
    """Of two, with an id, parameters and headers of its own; the answer's headers are read."""
    pair = []
    for name in ("a", "b"):
        pair.append(InferInput(name, [2, 4], "FP32"))
        pair[-1].set_data_from_numpy(np.ones((2, 4), np.float32), binary_data=False)
    wanted = [RequestedOutput("difference")]
    request = InferRequest("add_sub", pair, "mine", parameters={"priority": 3}, request_outputs=wanted)
    headers: dict[str, str] = {}
    async with _connect() as server:
        response = await server.infer(
            addresses.url,
            request,
            model_name="add_sub",
            headers={"X-Request-Id": "kserve"},
            response_headers=headers,
        )
    assert response.id == "mine"
    assert headers["x-model-version"] == "add_sub/1"
    assert [output.name for output in response.outputs] == ["difference"]
    assert headers["x-request-id"] == "kserve"


async def infers_strings(addresses: Addresses) -> None:
    """BYTES as texts and as any bytes."""
    async with _connect() as server:
        for words in ([b"one", "zwölf".encode()], [b"\x00\xff", b""]):
            tensor = InferInput("text", [1, 2], "BYTES")
            tensor.set_data_from_numpy(np.array([words], dtype=object), binary_data=True)
            wanted = [RequestedOutput("length", {"binary_data": True})]
            request = InferRequest("upper", [tensor], request_outputs=wanted)
            response = await server.infer(addresses.url, request, model_name="upper")
            assert response.outputs[0].as_numpy().tolist() == [[len(word) for word in words]]


async def infers_what_is_large(addresses: Addresses) -> None:
    """A megabyte; it accepts compressed answers and undoes that itself."""
    ids = np.arange(130_000, dtype=np.int64).reshape(1, -1)
    async with _connect() as server:
        for binary in (True, False):
            tensor = InferInput("ids", list(ids.shape), "INT64")
            tensor.set_data_from_numpy(ids, binary_data=binary)
            wanted = [RequestedOutput("reversed", {"binary_data": binary})]
            request = InferRequest("reverse", [tensor], request_outputs=wanted)
            response = await server.infer(addresses.url, request, model_name="reverse")
            np.testing.assert_array_equal(response.outputs[0].as_numpy(), ids[:, ::-1])


async def leaves_when_its_own_timeout_is_over(addresses: Addresses) -> None:
    """A client that hangs up, or is cancelled, disturbs nobody."""
    slow = _request("slow", np.full((1, 1), 1500, np.float32), binary=False)
    quick = _request("slow", np.ones((1, 1), np.float32), binary=False)
    async with _connect() as server:
        call = server.infer(addresses.url, slow, model_name="slow", timeout=0.2)
        (error,) = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(error, httpx.TimeoutException), error
        task = asyncio.create_task(server.infer(addresses.url, slow, model_name="slow"))
        await asyncio.sleep(0.2)
        task.cancel()
        (error,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(error, asyncio.CancelledError), error
        response = await server.infer(addresses.url, quick, model_name="slow")
        assert response.outputs[0].data == [1.0]


async def reads_errors(addresses: Addresses) -> None:
    """Status and sentence."""
    async with _connect() as server:
        request = _request("identity_int32", np.ones((1, 2), np.int32), binary=False)
        for model, status, text in (("identity_int32", 400, "'x'"), ("nothing", 404, "nothing")):
            call = server.infer(addresses.url, request, model_name=model)
            (error,) = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(error, httpx.HTTPStatusError), error
            assert error.response.status_code == status
            assert text in str(error), error


async def predicts_with_version_1(addresses: Addresses) -> None:
    """Instances in, predictions out; health and readiness of that version."""
    async with _connect("v1") as server:
        assert await server.is_server_live(addresses.url)
        assert await server.is_model_ready(addresses.url, "identity_float32")
        answer = await server.infer(
            addresses.url, {"instances": [[1, 2, 3], [4, 5, 6]]}, model_name="identity_float32"
        )
        assert answer == {"predictions": [[1, 2, 3], [4, 5, 6]]}
        call = server.infer(addresses.url, {"instances": [[1, 2]]}, model_name="identity_float32")
        (error,) = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(error, httpx.HTTPStatusError), error
        assert error.response.status_code == 400
        assert isinstance(error.response.json()["error"], str)
