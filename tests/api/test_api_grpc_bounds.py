"""What callers can make the gRPC port hold, and how long it is patient with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from tests.api.grpc_harness import GrpcService, floats, rows, serving_grpc, until
from tests.api.grpc_wire import Wire
from tests.api.harness import Model, in_loop

from maas.api.grpc import server
from maas.api.grpc.service import NAME

MEBIBYTE = 1 << 20


@asynccontextmanager
async def wire(service: GrpcService) -> AsyncIterator[Wire]:
    connection = await Wire.connect(service.server.port)
    listening = asyncio.ensure_future(connection.listen())
    try:
        yield connection
    finally:
        connection.close()
        listening.cancel()
        await asyncio.wait([listening])


@pytest.mark.parametrize(
    "method",
    [f"{NAME}/ModelInfer", f"{NAME}/ServerLive", "grpc.health.v1.Health/Check"],
    ids=["ModelInfer", "ServerLive", "Check"],
)
@in_loop
async def test_messages_that_never_end_give_way_to_each_other(method: str) -> None:
    """As many as may wait in all may stay half way for longer than a moment; the oldest of more are refused, and a whole
    message is answered as ever."""
    limits = {"body_bytes": MEBIBYTE, "waiting_bytes": 8 * MEBIBYTE}  # each may be of 2 MiB: four
    async with serving_grpc(configuration={"limits": limits}) as service, wire(service) as half:
        streams = [half.open(f"/{method}") for _ in range(10)]
        for stream in streams:
            await half.send(stream, bytes(1000), of=MEBIBYTE)
        await until(lambda: len(half.ended) == 6)
        assert half.ended == set(streams[:6])
        assert floats(await service.infer(rows([1, 2]))) == [[2, 4]]
        await asyncio.sleep(0.2)
        assert len(half.ended) == 6


@in_loop
async def test_message_that_comes_slowly_is_answered() -> None:
    """Nobody is hurried where there is room."""
    async with serving_grpc() as service, wire(service) as slow:
        stream = slow.open(f"/{NAME}/ServerLive")
        await asyncio.sleep(1.5)
        assert not slow.ended
        await slow.send(stream, b"")
        await until(lambda: stream in slow.ended)


@in_loop
async def test_what_nobody_asked_for_is_not_taken() -> None:
    """Behind the message of a call that runs, a client can send some 64 KiB and no more."""
    async with serving_grpc(Model(seconds=30.0)) as service, wire(service) as pushing:
        stream = pushing.open(f"/{NAME}/ModelInfer")
        await pushing.send(stream, rows([1, 2]).SerializeToString())
        await until(lambda: service.running == 1)
        sending = asyncio.ensure_future(pushing.send(stream, bytes(4 * MEBIBYTE)))
        await asyncio.wait([sending], timeout=0.3)
        assert pushing.sent < 128 << 10
        sending.cancel()


@in_loop
async def test_connections_over_the_most_are_closed() -> None:
    """`max_connections` holds for this port too; those that are there stay."""
    async with serving_grpc(configuration={"server": {"max_connections": 2}}) as service:
        assert (await service.call("ServerLive")).live
        async with wire(service) as second, wire(service) as third:
            await until(lambda: third.is_closed)
            assert not second.is_closed
            assert (await service.call("ServerLive")).live


@in_loop
async def test_connection_that_says_nothing_is_closed() -> None:
    """One that never speaks HTTP/2 has `idle_timeout`, one that asks nothing has `keep_alive_timeout`."""
    timeouts = {"idle_timeout": 0.5, "keep_alive_timeout": 1.0}
    async with serving_grpc(configuration={"server": timeouts}) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
        async with asyncio.timeout(10), wire(service) as idle:
            while await reader.read(4096):
                pass
            await until(lambda: idle.is_closed)
        writer.close()


@in_loop
async def test_streams_over_the_most_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may wait for its next message, half of which may be there, so there are not any number of them."""
    monkeypatch.setattr(server, "_MOST_STREAMS", 2)
    async with serving_grpc() as service:
        kept = [service.stream() for _ in range(2)]
        for stream in kept:
            await stream.write(rows([1, 2]))
            await stream.read()
        refused = service.stream()
        with pytest.raises(grpc.aio.AioRpcError, match="2 streams") as caught:
            await refused.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        for stream in kept:
            stream.cancel()
        await until(lambda: not service.server.held.statistics().streams)


@pytest.mark.parametrize("is_stream", [False, True], ids=["calls", "stream"])
@in_loop
async def test_answers_that_are_not_taken_are_bounded(is_stream: bool) -> None:
    """While callers leave more answers untaken than may wait, nobody is asked for more; when they have left, all is as before."""
    declaration = "float32[batch, 262144]"
    model = Model(outputs={"y": declaration}, function=lambda x: {"y": x["x"][:, :1].repeat(262144, axis=1)})
    limits = {"waiting_bytes": 4 * MEBIBYTE}
    async with serving_grpc(model, configuration={"limits": limits}) as service, wire(service) as greedy:
        message = rows([1, 2]).SerializeToString()
        method = "ModelStreamInfer" if is_stream else "ModelInfer"
        stream = greedy.open(f"/{NAME}/{method}")
        for _ in range(8):
            await greedy.send(stream, message)
            stream = stream if is_stream else greedy.open(f"/{NAME}/{method}")
        await until(lambda: service.server.held.statistics().answers > 4 * MEBIBYTE)
        with pytest.raises(grpc.aio.AioRpcError, match="not taken") as caught:
            await service.infer(rows([1, 2]))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        greedy.close()
        await until(lambda: not service.server.held.statistics().answers)
        assert floats(await service.infer(rows([1, 2])))[0][0] == 1
