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
    tensor = InferInput(name, list(array.shape), DATATYPES[model.rpartition("_")[2]])
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
