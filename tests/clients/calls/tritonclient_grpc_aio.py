"""`tritonclient.grpc.aio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import tritonclient.grpc.aio as client
from tests.clients.arrays import ARRAYS
from tests.clients.call import Addresses
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def _input(name: str, array: np.ndarray) -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _one(value: float) -> list[client.InferInput]:
    return [_input("x", np.full((1, 1), value, np.float32))]


async def is_live_ready_and_described(addresses: Addresses) -> None:
    """Health and metadata."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        assert await server.is_server_live()
        assert await server.is_server_ready()
        assert await server.is_model_ready("add_sub")
        assert (await server.get_server_metadata()).name == "maas"
        assert list((await server.get_model_metadata("add_sub")).versions) == ["1"]


async def reads_config_statistics_and_index(addresses: Addresses) -> None:
    """What is served beyond the standard."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        assert (await server.get_model_config("add_sub")).config.max_batch_size == 32
        assert (await server.get_inference_statistics("add_sub")).model_stats[0].name == "add_sub"
        assert "add_sub" in {model.name for model in (await server.get_model_repository_index()).models}


async def infers_every_datatype(addresses: Addresses) -> None:
    """All types at once over one channel; each gets its own."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        calls = [server.infer(f"identity_{name}", [_input("x", array)]) for name, array in ARRAYS.items()]
        for result, array in zip(await asyncio.gather(*calls), ARRAYS.values(), strict=True):
            np.testing.assert_array_equal(result.as_numpy("y"), array)


async def streams(addresses: Addresses) -> None:
    """Each request of a stream is answered; one that fails says so, and the stream goes on."""

    async def requests() -> AsyncIterator[dict]:
        for value in (1, -1, 2):
            yield {"model_name": "failing", "inputs": _one(value), "request_id": str(value)}

    good, errors = {}, []
    async with client.InferenceServerClient(addresses.grpc) as server:
        async for result, error in server.stream_infer(requests()):
            if error is None:
                good[result.get_response().id] = result.as_numpy("y").tolist()
            else:
                errors.append(error)
    assert good == {"1": [[1]], "2": [[2]]}
    assert len(errors) == 1


async def cancels(addresses: Addresses) -> None:
    """A cancelled task and a deadline end the call; the next one is answered."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        slow = asyncio.create_task(server.infer("slow", _one(1500)))
        await asyncio.sleep(0.2)
        slow.cancel()
        assert isinstance((await asyncio.gather(slow, return_exceptions=True))[0], asyncio.CancelledError)
        call = server.infer("slow", _one(1500), client_timeout=0.2)
        (error,) = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(error, InferenceServerException), error
        assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert (await server.infer("slow", _one(1))).as_numpy("y").tolist() == [[1]]
