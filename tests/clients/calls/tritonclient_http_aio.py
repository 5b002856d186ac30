"""`tritonclient.http.aio`: the same over aiohttp."""

from __future__ import annotations

import asyncio

import numpy as np
import tritonclient.http.aio as client
from tests.clients.arrays import ARRAYS
from tests.clients.call import Addresses
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def _input(name: str, array: np.ndarray, binary: bool = True) -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


async def is_live_ready_and_described(addresses: Addresses) -> None:
    """Health and metadata of the server and of a model."""
    async with client.InferenceServerClient(addresses.http) as server:
        assert await server.is_server_live()
        assert await server.is_server_ready()
        assert await server.is_model_ready("add_sub")
        assert (await server.get_server_metadata())["name"] == "maas"
        assert (await server.get_model_metadata("add_sub"))["versions"] == ["1"]


async def infers_every_datatype(addresses: Addresses) -> None:
    """All types at once over one client, binary; each gets its own."""
    async with client.InferenceServerClient(addresses.http) as server:
        calls = [server.infer(f"identity_{name}", [_input("x", array)]) for name, array in ARRAYS.items()]
        for result, array in zip(await asyncio.gather(*calls), ARRAYS.values(), strict=True):
            np.testing.assert_array_equal(result.as_numpy("y"), array)


async def infers_in_json(addresses: Addresses) -> None:
    """JSON in and out."""
    x = np.array([[-(2**63), 0, 2**63 - 1]])
    async with client.InferenceServerClient(addresses.http) as server:
        outputs = [client.InferRequestedOutput("y", binary_data=False)]
        result = await server.infer("identity_int64", [_input("x", x, binary=False)], outputs=outputs)
        np.testing.assert_array_equal(result.as_numpy("y"), x)


async def compresses_both_ways(addresses: Addresses) -> None:
    """gzip and deflate."""
    x = np.ones((8, 3), np.float32)
    async with client.InferenceServerClient(addresses.http) as server:
        for algorithm in ("gzip", "deflate"):
            result = await server.infer(
                "identity_float32",
                [_input("x", x)],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            np.testing.assert_array_equal(result.as_numpy("y"), x)


async def reads_config_statistics_and_index(addresses: Addresses) -> None:
    """What is served beyond the standard."""
    async with client.InferenceServerClient(addresses.http) as server:
        assert (await server.get_model_config("add_sub"))["max_batch_size"] == 32
        statistics = await server.get_inference_statistics("add_sub")
        assert statistics["model_stats"][0]["name"] == "add_sub"
        assert "add_sub" in {entry["name"] for entry in await server.get_model_repository_index()}


async def cancels(addresses: Addresses) -> None:
    """A cancelled task closes its connection; the next call of the same client is answered."""
    async with client.InferenceServerClient(addresses.http) as server:
        slow = asyncio.create_task(server.infer("slow", [_input("x", np.full((1, 1), 1500, np.float32))]))
        await asyncio.sleep(0.2)
        slow.cancel()
        assert isinstance((await asyncio.gather(slow, return_exceptions=True))[0], asyncio.CancelledError)
        x = np.ones((1, 1), np.float32)
        np.testing.assert_array_equal((await server.infer("slow", [_input("x", x)])).as_numpy("y"), x)


async def reads_errors(addresses: Addresses) -> None:
    """A model that is not there."""
    async with client.InferenceServerClient(addresses.http) as server:
        call = server.infer("nothing", [_input("x", np.ones((1, 1), np.float32))])
        (error,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(error, InferenceServerException), error
    assert error.status() == "404", error
    assert "nothing" in error.message(), error
