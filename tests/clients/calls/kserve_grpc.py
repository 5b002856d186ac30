"""`kserve.InferenceGRPCClient`: raw contents from arrays, typed ones from lists."""

from __future__ import annotations

import asyncio
import logging

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput
from tests.clients.arrays import ARRAYS, DATATYPES, as_text
from tests.clients.call import Addresses

logging.getLogger("kserve").setLevel(logging.CRITICAL)  # it logs each refusal with a traceback


async def is_live_ready_and_knows_models(addresses: Addresses) -> None:
    """Health; a model that is there."""
    async with InferenceGRPCClient(addresses.grpc) as server:
        assert await server.is_server_live()
        assert await server.is_server_ready()
        assert await server.is_model_ready("add_sub")


async def infers_every_datatype_raw(addresses: Addresses) -> None:
    """What goes in comes out."""
    async with InferenceGRPCClient(addresses.grpc) as server:
        for name, array in ARRAYS.items():
            tensor = InferInput("x", list(array.shape), DATATYPES[name])
            tensor.set_data_from_numpy(array, binary_data=True)
            response = await server.infer(InferRequest(f"identity_{name}", [tensor], request_id="mine"))
            assert response.id == "mine"
            _assert_same(response.outputs[0].as_numpy(), array, name)


async def infers_every_datatype_typed(addresses: Addresses) -> None:
    """The same in typed contents, which have none for FP16."""
    async with InferenceGRPCClient(addresses.grpc) as server:
        for name, array in ARRAYS.items():
            if name == "float16":
                continue
            tensor = InferInput("x", list(array.shape), DATATYPES[name], data=array.ravel().tolist())
            response = await server.infer(InferRequest(f"identity_{name}", [tensor]))
            _assert_same(response.outputs[0].as_numpy(), array, name)


def _assert_same(got: np.ndarray, array: np.ndarray, name: str) -> None:
    """The client decodes texts of raw contents, and leaves those of typed ones bytes."""
    expected = as_text(array) if isinstance(got.flat[0], str) else array
    np.testing.assert_array_equal(got, expected, name)


async def infers_a_chosen_output(addresses: Addresses) -> None:
    """Of two, with an id and parameters of its own."""
    pair = [InferInput(name, [2, 4], "FP32", data=[1.0] * 8) for name in ("a", "b")]
    wanted = [RequestedOutput("difference")]
    request = InferRequest("add_sub", pair, "mine", parameters={"priority": 3}, request_outputs=wanted)
    async with InferenceGRPCClient(addresses.grpc) as server:
        response = await server.infer(request, headers=(("x-request-id", "kserve"),))
    assert (response.id, response.model_version) == ("mine", "1")
    assert [output.name for output in response.outputs] == ["difference"]
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), np.zeros((2, 4), np.float32))


async def infers_what_is_large(addresses: Addresses) -> None:
    """More than four megabytes."""
    ids = np.arange(1 << 20, dtype=np.int64).reshape(1, -1)
    tensor = InferInput("ids", list(ids.shape), "INT64")
    tensor.set_data_from_numpy(ids, binary_data=True)
    options = [("grpc.max_receive_message_length", -1)]
    async with InferenceGRPCClient(addresses.grpc, channel_args=options) as server:
        response = await server.infer(InferRequest("reverse", [tensor]))
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), ids[:, ::-1])


async def is_told_of_its_deadline_and_cancels(addresses: Addresses) -> None:
    """A deadline is kept, a cancelled call ends, and the next is answered."""

    def request(milliseconds: float) -> InferRequest:
        return InferRequest("slow", [InferInput("x", [1, 1], "FP32", data=[milliseconds])])

    async with InferenceGRPCClient(addresses.grpc, retries=0) as server:
        (error,) = await asyncio.gather(server.infer(request(1500), timeout=0.2), return_exceptions=True)
        assert isinstance(error, grpc.RpcError), error
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        task = asyncio.create_task(server.infer(request(1500)))
        await asyncio.sleep(0.2)
        task.cancel()
        (error,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(error, asyncio.CancelledError), error
        response = await server.infer(request(1))
        assert response.outputs[0].as_numpy().tolist() == [[1.0]]


async def reads_errors(addresses: Addresses) -> None:
    """Codes and sentences."""
    tensor = InferInput("x", [1, 2], "INT32", data=[1, 2])
    async with InferenceGRPCClient(addresses.grpc, retries=0) as server:
        for model, code in (
            ("identity_int32", grpc.StatusCode.INVALID_ARGUMENT),
            ("nothing", grpc.StatusCode.NOT_FOUND),
        ):
            call = server.infer(InferRequest(model, [tensor]))
            (error,) = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(error, grpc.RpcError), error
            assert error.code() == code
