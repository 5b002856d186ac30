"""`tritonclient.http.aio`: the same over aiohttp."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import tritonclient.http.aio as client
from tests.clients.arrays import ARRAYS, as_text, with_bfloat16
from tests.clients.call import Addresses
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def _input(name: str, array: np.ndarray, binary: bool = True) -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _one(value: float) -> list[client.InferInput]:
    return [_input("x", np.full((1, 1), value, np.float32))]


async def _expect(status: str, text: str, call: Awaitable) -> None:
    (error,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(error, InferenceServerException), error
    assert error.status() == status, error
    assert text in error.message(), error


async def _until(wanted: bool, is_ready: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 20
    while await is_ready() is not wanted:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


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
        calls = [
            server.infer(f"identity_{name}", [_input("x", array)]) for name, array in with_bfloat16().items()
        ]
        for result, array in zip(await asyncio.gather(*calls), with_bfloat16().values(), strict=True):
            np.testing.assert_array_equal(result.as_numpy("y"), array)


async def infers_every_datatype_json(addresses: Addresses) -> None:
    """The same in JSON both ways, the extremes of 64-bit integers included; it has no JSON of FP16."""
    async with client.InferenceServerClient(addresses.http) as server:
        for name, array in ARRAYS.items():
            if name == "float16":
                continue
            outputs = [client.InferRequestedOutput("y", binary_data=False)]
            result = await server.infer(
                f"identity_{name}", [_input("x", array, binary=False)], outputs=outputs
            )
            np.testing.assert_array_equal(result.as_numpy("y"), as_text(array), name)


async def infers_a_chosen_output_of_a_version(addresses: Addresses) -> None:
    """Outputs, id, version, priority and parameters as they are asked for."""
    pair = [_input(name, np.ones((2, 4), np.float32)) for name in ("a", "b")]
    async with client.InferenceServerClient(addresses.http) as server:
        outputs = [client.InferRequestedOutput("difference")]
        result = await server.infer(
            "add_sub", pair, "1", outputs, "mine", priority=3, parameters={"mine": True}
        )
        response = result.get_response()
        assert (response["id"], response["model_version"]) == ("mine", "1")
        assert [tensor["name"] for tensor in response["outputs"]] == ["difference"]
        await _expect("404", "7", server.infer("versioned", _one(1), model_version="7"))


async def infers_strings(addresses: Addresses) -> None:
    """BYTES as texts and as any bytes."""
    async with client.InferenceServerClient(addresses.http) as server:
        for words in (["one", "zwölf"], [b"\x00\xff", b""]):
            result = await server.infer("upper", [_input("text", np.array([words], dtype=object))])
            raw = [word if isinstance(word, bytes) else word.encode() for word in words]
            assert result.as_numpy("upper").tolist() == [[word.upper() for word in raw]]


async def compresses_both_ways(addresses: Addresses) -> None:
    """gzip and deflate; the answer really comes so."""
    ids = np.arange(5000, dtype=np.int64).reshape(1, -1)
    async with client.InferenceServerClient(addresses.http) as server:
        codings, post = [], server._stub.post

        async def recorded(*arguments: object, **options: object) -> object:
            response = await post(*arguments, **options)
            codings.append(response.headers.get("Content-Encoding"))
            return response

        server._stub.post = recorded
        for algorithm in ("gzip", "deflate"):
            result = await server.infer(
                "reverse",
                [_input("ids", ids)],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            np.testing.assert_array_equal(result.as_numpy("reversed"), ids[:, ::-1])
    assert codings == ["gzip", "deflate"], codings


async def reads_config_and_true_statistics(addresses: Addresses) -> None:
    """What is served beyond the standard; counts grow by what was asked."""
    async with client.InferenceServerClient(addresses.http) as server:

        async def counts() -> tuple[int, int]:
            (entry,) = (await server.get_inference_statistics("failing", "1"))["model_stats"]
            outcomes = entry["inference_stats"]
            return int(outcomes["success"]["count"]), int(outcomes["fail"]["count"])

        assert (await server.get_model_config("add_sub"))["max_batch_size"] == 32
        success, fail = await counts()
        await asyncio.gather(*(server.infer("failing", _one(1)) for _ in range(3)))
        await _expect("500", "", server.infer("failing", _one(-1)))
        assert await counts() == (success + 3, fail + 1)


async def controls_the_repository(addresses: Addresses) -> None:
    """Index, unload, load: the model goes and comes back."""
    async with client.InferenceServerClient(addresses.http) as server:

        async def is_ready() -> bool:
            index = await server.get_model_repository_index()
            return "READY" in {entry["state"] for entry in index if entry["name"] == "spare"}

        assert await is_ready()
        await server.unload_model("spare")
        await _until(False, is_ready)
        await server.load_model("spare")
        await _until(True, is_ready)
        assert (await server.infer("spare", _one(1))).as_numpy("y").tolist() == [[1]]
        await _expect("404", "nothing", server.load_model("nothing"))


async def is_told_of_its_timeout(addresses: Addresses) -> None:
    """The request's timeout, in microseconds, is answered when it is over, not when the model ends."""
    async with client.InferenceServerClient(addresses.http) as server:
        started = time.monotonic()
        await _expect("504", "", server.infer("slow", _one(2000), timeout=100_000))
        assert time.monotonic() - started < 1.9


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
    """A model that is not there, an input that is missing, and extensions that are not served."""
    async with client.InferenceServerClient(addresses.http) as server:
        await _expect("404", "nothing", server.infer("nothing", _one(1)))
        await _expect("400", "b", server.infer("add_sub", [_input("a", np.ones((1, 4), np.float32))]))
        await _expect("404", "shared_memory", server.get_system_shared_memory_status())
        await _expect("404", "trace", server.get_trace_settings())
        await _expect("404", "logging", server.get_log_settings())
