"""One gRPC server takes the port of another under load."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter

import grpc
import pytest
from tests.api.grpc_harness import SECONDS, GrpcService, rows, serving_grpc
from tests.api.harness import Model, in_loop

from maas.api.grpc.server import GrpcServer
from maas.api.grpc.service import NAME
from maas.config import Configuration

_CALLERS = 16


def call_until(is_over: threading.Event, port: int) -> Counter[str]:
    """How the calls of some callers ended, who ask again as soon as they are answered, over one channel."""
    ended: Counter[str] = Counter()
    message = rows([1, 2]).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(f"/{NAME}/ModelInfer")

        def call() -> None:
            while not is_over.is_set():
                try:
                    infer(message, timeout=SECONDS, wait_for_ready=True)
                    ended["OK"] += 1
                except grpc.RpcError as error:
                    ended[error.code().name] += 1

        callers = [threading.Thread(target=call) for _ in range(_CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    return ended


async def succeed(service: GrpcService, port: int) -> GrpcServer:
    parts = service.service
    settings = Configuration.model_validate({"server": {"grpc_port": port}})
    new = GrpcServer(
        settings, parts.gateway, service.door, parts.recorder, parts.backlog, parts.metrics, 1000
    )
    await new.start()
    await service.server.stop(SECONDS)
    return new


@pytest.mark.parametrize("round_", range(3))
@in_loop
async def test_callers_do_not_notice_a_successor(round_: int) -> None:
    """Who asks again when answered has heard by then that the server stops: of sixteen such callers, of whom about ten would
    be cancelled, hardly one is."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    is_over = threading.Event()
    configuration = {"server": {"grpc_port": port}}
    async with serving_grpc(Model(seconds=0.002), configuration=configuration) as service:
        calling = asyncio.ensure_future(asyncio.to_thread(call_until, is_over, port))
        try:
            await asyncio.sleep(0.3)
            new = await succeed(service, port)
            await asyncio.sleep(0.2)
        finally:
            is_over.set()
            ended = await calling
        await new.stop(0)
    assert ended["OK"] > 50
    assert ended["CANCELLED"] <= 1
    assert set(ended) <= {"OK", "CANCELLED"}
