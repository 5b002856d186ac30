"""Streams of inference requests: `ModelStreamInfer`."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tests.api.grpc_harness import floats, rows, serving_grpc, until
from tests.api.harness import Model, in_loop

from maas.api.grpc.messages import ModelStreamInferResponse
from maas.api.grpc.service import _AHEAD, NAME


@in_loop
async def test_answers_come_in_order_and_are_final() -> None:
    """Each request has one answer, in its order, which says that it is the last one of its request."""
    async with serving_grpc() as service:
        stream = service.stream()
        for number in range(8):
            await stream.write(rows([number, 0], id=str(number)))
        await stream.done_writing()
        answers = [answer async for answer in stream]
        assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(8)]
        assert [floats(a.infer_response) for a in answers] == [[[2.0 * n, 0.0]] for n in range(8)]
        assert all(a.infer_response.parameters["triton_final_response"].bool_param for a in answers)
        assert await stream.code() == grpc.StatusCode.OK


@in_loop
async def test_requests_of_a_stream_share_batches() -> None:
    """They are asked side by side: a stream is as quick as calls of their own."""
    async with serving_grpc(Model(seconds=0.01, max_batch_size=4)) as service:
        stream = service.stream()
        for number in range(16):
            await stream.write(rows([number, 0]))
        await stream.done_writing()
        assert len([answer async for answer in stream]) == 16
        assert len(service.service.instances["double/1"].batches) < 16


@in_loop
async def test_error_is_an_answer_and_the_stream_goes_on() -> None:
    """A request that fails has its error in its place, with its id, and costs the others nothing."""
    async with serving_grpc() as service:
        stream = service.stream()
        await stream.write(rows([1, 2], id="a"))
        await stream.write(rows([1, 2], id="b", model_name="none"))
        await stream.write(rows([3, 4], id="c"))
        await stream.done_writing()
        first, second, third = [answer async for answer in stream]
        assert (first.error_message, third.error_message) == ("", "")
        assert "none" in second.error_message
        assert second.infer_response.id == "b"
        assert second.infer_response.parameters["triton_final_response"].bool_param
        assert floats(third.infer_response) == [[6, 8]]
        assert await stream.code() == grpc.StatusCode.OK


@in_loop
async def test_stream_that_is_left_leaves_the_queue() -> None:
    """Who cancels a stream has nothing waiting any more."""
    async with serving_grpc(Model(seconds=30.0, max_batch_size=1)) as service:
        stream = service.stream()
        for _ in range(3):
            await stream.write(rows([1, 2]))
        await until(lambda: service.waiting == 2)
        stream.cancel()
        await until(lambda: service.waiting == 0)


@in_loop
async def test_deadline_of_a_stream_takes_its_requests_off_the_queue() -> None:
    """It is that of all its requests."""
    async with serving_grpc(Model(seconds=30.0, max_batch_size=1)) as service:
        stream = service.stream(timeout=1.5)
        for _ in range(3):
            await stream.write(rows([1, 2]))
        await until(lambda: service.waiting == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: service.waiting == 0)


@in_loop
async def test_half_closed_stream_is_answered_to_its_end() -> None:
    """A client may say at once that it sends no more, and a stream without requests ends well."""
    async with serving_grpc(Model(seconds=0.1, max_batch_size=1)) as service:
        stream = service.stream()
        for number in range(3):
            await stream.write(rows([number, 0], id=str(number)))
        await stream.done_writing()
        assert [answer.infer_response.id async for answer in stream] == ["0", "1", "2"]
        empty = service.stream()
        await empty.done_writing()
        assert [answer async for answer in empty] == []
        assert await empty.code() == grpc.StatusCode.OK


@in_loop
async def test_client_that_asks_for_final_answers_has_no_empty_ones() -> None:
    """`triton_enable_empty_final_response` asks for a last answer without outputs where the number of answers is not known. Here
    it is one, which says itself that it is the last."""
    async with serving_grpc() as service:
        stream = service.stream()
        request = rows([1, 2])
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        await stream.write(request)
        await stream.done_writing()
        (answer,) = [answer async for answer in stream]
        assert answer.infer_response.parameters["triton_final_response"].bool_param
        assert floats(answer.infer_response) == [[2, 4]]


@in_loop
async def test_message_of_a_stream_that_is_none_is_an_error_in_its_place() -> None:
    """The stream goes on behind it."""
    async with serving_grpc() as service:
        call = service.channel.stream_stream(
            f"/{NAME}/ModelStreamInfer", response_deserializer=ModelStreamInferResponse.FromString
        )
        stream = call(timeout=10)
        await stream.write(b"\xff\xff\xff")
        await stream.write(rows([1, 2]).SerializeToString())
        await stream.done_writing()
        first, second = [answer async for answer in stream]
        assert "no ModelInferRequest" in first.error_message
        assert floats(second.infer_response) == [[2, 4]]


@in_loop
async def test_stream_is_read_no_further_than_it_is_answered() -> None:
    """A client that sends and sends has a bounded number of requests asked, while the first is not answered."""
    async with serving_grpc(Model(seconds=30.0, max_batch_size=1)) as service:
        stream = service.stream()

        async def send() -> None:
            for _ in range(3 * _AHEAD):
                await stream.write(rows([1, 2]))

        sending = asyncio.ensure_future(send())
        await until(lambda: service.waiting >= _AHEAD)
        await asyncio.sleep(0.2)
        assert service.waiting <= _AHEAD + 2
        sending.cancel()
        stream.cancel()
        await asyncio.wait([sending])
