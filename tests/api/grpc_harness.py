"""A real gRPC server over the service of the harness, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import Message
from tests.api.harness import Model, Service, serving

from maas.api.door import Door
from maas.api.grpc import messages
from maas.api.grpc.messages import ModelInferRequest
from maas.api.grpc.server import GrpcServer
from maas.api.grpc.service import NAME
from maas.config import Configuration

SECONDS = 20.0  # after which a call that should have ended fails its test


@dataclass
class GrpcService:
    """`call` calls a method of the inference service by name."""

    service: Service
    server: GrpcServer
    door: Door
    channel: grpc.aio.Channel

    def call(self, method: str, message: Message | None = None, **options: Any) -> grpc.aio.UnaryUnaryCall:
        asked = getattr(messages, f"{method}Request")
        answer = getattr(messages, f"{method}Response")
        stub = self.channel.unary_unary(
            f"/{NAME}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return stub(asked() if message is None else message, **{"timeout": SECONDS, **options})

    @property
    def waiting(self) -> int:
        """Requests in the queue of the harness's default model."""
        return self.service.live().batcher.statistics().waiting

    @property
    def running(self) -> int:
        return self.service.live().batcher.statistics().running

    def infer(self, message: ModelInferRequest, **options: Any) -> grpc.aio.UnaryUnaryCall:
        return self.call("ModelInfer", message, **options)

    def stream(self, **options: Any) -> grpc.aio.StreamStreamCall:
        stub = self.channel.stream_stream(
            f"/{NAME}/ModelStreamInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelStreamInferResponse.FromString,
        )
        return stub(**{"timeout": SECONDS, **options})


@asynccontextmanager
async def serving_grpc(
    *models: Model, configuration: Mapping[str, Any] | None = None, most_requests: int = 1000, **options: Any
) -> AsyncIterator[GrpcService]:
    async with serving(*models, configuration=configuration, **options) as service:
        door = Door(service.gateway, service.recorder, most_requests)
        settings = Configuration.model_validate(configuration or {})
        parts = service.gateway, door, service.recorder, service.backlog, service.metrics
        server = GrpcServer(settings, *parts, settings.server.max_connections)
        await server.start()
        try:
            limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=limits) as channel:
                yield GrpcService(service, server, door, channel)
        finally:
            await server.stop(0)


def tensor(name: str, datatype: str, shape: list[int], **contents: Any) -> ModelInferRequest.InferInputTensor:
    """With typed contents where some are given."""
    given = messages.InferTensorContents(**contents) if contents else None
    return ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=given)


def rows(*numbers: list[float], **request: Any) -> ModelInferRequest:
    """A request of the harness's default model, raw."""
    x = np.array(numbers, np.float32)
    return ModelInferRequest(
        **{"model_name": "double", **request},
        inputs=[tensor("x", "FP32", list(x.shape))],
        raw_input_contents=[x.tobytes()],
    )


def floats(answer: messages.ModelInferResponse) -> list[list[float]]:
    [output], [raw] = answer.outputs, answer.raw_output_contents
    return np.frombuffer(raw, np.float32).reshape(output.shape).tolist()


async def until(is_so: Callable[[], bool]) -> None:
    """Calls go over a real socket, so what they do comes in time, not in turns of the loop."""
    for _ in range(2000):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("what was waited for never came")
