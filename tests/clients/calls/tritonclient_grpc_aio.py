"""`tritonclient.grpc.aio`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import tritonclient.grpc.aio as client
from tests.clients.arrays import with_bfloat16
from tests.clients.call import Addresses
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def _input(name: str, array: np.ndarray) -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _one(value: float) -> list[client.InferInput]:
    return [_input("x", np.full((1, 1), value, np.float32))]


async def _expect(status: str, text: str, call: Awaitable) -> None:
    (error,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(error, InferenceServerException), error
    assert error.status() == f"StatusCode.{status}", error
    assert text in error.message(), error


async def _until(wanted: bool, is_ready: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 20
    while await is_ready() is not wanted:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def is_live_ready_and_described(addresses: Addresses) -> None:
    """Health and metadata."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        assert await server.is_server_live()
        assert await server.is_server_ready()
        assert await server.is_model_ready("add_sub")
        assert (await server.get_server_metadata()).name == "maas"
        assert list((await server.get_model_metadata("add_sub")).versions) == ["1"]


async def reads_config_and_true_statistics(addresses: Addresses) -> None:
    """What is served beyond the standard; counts grow by what was asked."""
    async with client.InferenceServerClient(addresses.grpc) as server:

        async def counts() -> tuple[int, int]:
            (entry,) = (await server.get_inference_statistics("failing", "1")).model_stats
            return entry.inference_stats.success.count, entry.inference_stats.fail.count

        assert (await server.get_model_config("add_sub")).config.max_batch_size == 32
        success, fail = await counts()
        await asyncio.gather(*(server.infer("failing", _one(1)) for _ in range(3)))
        await _expect("INTERNAL", "", server.infer("failing", _one(-1)))
        assert await counts() == (success + 3, fail + 1)


async def controls_the_repository(addresses: Addresses) -> None:
    """Index, unload, load: the model goes and comes back."""
    async with client.InferenceServerClient(addresses.grpc) as server:

        async def is_ready() -> bool:
            models = (await server.get_model_repository_index()).models
            return "READY" in {model.state for model in models if model.name == "spare"}

        assert await is_ready()
        await server.unload_model("spare")
        await _until(False, is_ready)
        await server.load_model("spare")
        await _until(True, is_ready)
        assert (await server.infer("spare", _one(1))).as_numpy("y").tolist() == [[1]]
        await _expect("NOT_FOUND", "nothing", server.load_model("nothing"))


async def infers_every_datatype(addresses: Addresses) -> None:
    """All types at once over one channel; each gets its own."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        calls = [
            server.infer(f"identity_{name}", [_input("x", array)]) for name, array in with_bfloat16().items()
        ]
        for result, array in zip(await asyncio.gather(*calls), with_bfloat16().values(), strict=True):
            np.testing.assert_array_equal(result.as_numpy("y"), array)


async def infers_strings(addresses: Addresses) -> None:
    """BYTES as texts and as any bytes."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        for words in (["one", "zwölf"], [b"\x00\xff", b""]):
            result = await server.infer("upper", [_input("text", np.array([words], dtype=object))])
            raw = [word if isinstance(word, bytes) else word.encode() for word in words]
            assert result.as_numpy("upper").tolist() == [[word.upper() for word in raw]]


async def infers_a_chosen_output_of_a_version(addresses: Addresses) -> None:
    """Outputs, id, version, priority and parameters as they are asked for."""
    pair = [_input(name, np.ones((2, 4), np.float32)) for name in ("a", "b")]
    async with client.InferenceServerClient(addresses.grpc) as server:
        outputs = [client.InferRequestedOutput("difference")]
        result = await server.infer(
            "add_sub", pair, "1", outputs, "mine", priority=3, parameters={"mine": True}
        )
        response = result.get_response()
        assert (response.id, response.model_version) == ("mine", "1")
        assert [tensor.name for tensor in response.outputs] == ["difference"]


async def sends_more_than_four_megabytes_compressed(addresses: Addresses) -> None:
    """Plain, and by both algorithms."""
    ids = np.arange(1 << 20, dtype=np.int64).reshape(1, -1)
    async with client.InferenceServerClient(addresses.grpc) as server:
        for algorithm in (None, "gzip", "deflate"):
            result = await server.infer("reverse", [_input("ids", ids)], compression_algorithm=algorithm)
            np.testing.assert_array_equal(result.as_numpy("reversed"), ids[:, ::-1])


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


async def cancels_a_stream(addresses: Addresses) -> None:
    """A stream that is cancelled ends at once, whatever is under way; the next one is answered."""

    async def request(value: float) -> AsyncIterator[dict]:
        yield {"model_name": "slow", "inputs": _one(value)}

    async with client.InferenceServerClient(addresses.grpc) as server:
        stream = server.stream_infer(request(2000))
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)
        stream.cancel()
        async with asyncio.timeout(1.5):
            await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled() or waiting.exception() is not None
        answers = [pair async for pair in server.stream_infer(request(1))]
        assert [error for _, error in answers] == [None]


async def reads_errors(addresses: Addresses) -> None:
    """Codes and sentences, those of extensions that are not served among them."""
    async with client.InferenceServerClient(addresses.grpc) as server:
        await _expect("NOT_FOUND", "nothing", server.infer("nothing", _one(1)))
        await _expect("NOT_FOUND", "7", server.infer("versioned", _one(1), model_version="7"))
        missing = [_input("a", np.ones((1, 4), np.float32))]
        await _expect("INVALID_ARGUMENT", "b", server.infer("add_sub", missing))
        await _expect("INTERNAL", "", server.infer("failing", _one(-1)))
        await _expect("DEADLINE_EXCEEDED", "", server.infer("slow", _one(1500), timeout=100_000))
        await _expect("UNIMPLEMENTED", "", server.get_system_shared_memory_status())
        await _expect("UNIMPLEMENTED", "", server.get_trace_settings())
        await _expect("UNIMPLEMENTED", "", server.get_log_settings())
