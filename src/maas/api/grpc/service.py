"""The service's methods as gRPC has them: what our own functions return or raise becomes messages, statuses and metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from maas.api.errors import grpc_code_of, headers_of, public
from maas.api.grpc import messages
from maas.api.grpc.asking import Asking, Caller
from maas.api.grpc.catalogue import Catalogue
from maas.api.grpc.messages import ModelInferResponse, ModelStreamInferResponse
from maas.api.grpc.reply import Metadata, Reply, as_metadata
from maas.errors import MaasError

NAME = "inference.GRPCInferenceService"

_AHEAD = 256  # requests of one stream that are asked while the first of them is not answered yet

# What clients may call though it is not served, and the extension of the protocol that it belongs to.
_UNSERVED = {
    "SystemSharedMemoryStatus": "system_shared_memory",
    "SystemSharedMemoryRegister": "system_shared_memory",
    "SystemSharedMemoryUnregister": "system_shared_memory",
    "CudaSharedMemoryStatus": "cuda_shared_memory",
    "CudaSharedMemoryRegister": "cuda_shared_memory",
    "CudaSharedMemoryUnregister": "cuda_shared_memory",
    "TraceSetting": "trace",
    "LogSettings": "logging",
}


def handlers(asking: Asking, catalogue: Catalogue) -> grpc.GenericRpcHandler:
    """One for each call of the service, and one for each that is known and not served."""
    plain: dict[str, tuple[Callable[[Any], Awaitable[Message]], type[Message]]] = {
        "ServerLive": (catalogue.server_live, messages.ServerLiveRequest),
        "ServerReady": (catalogue.server_ready, messages.ServerReadyRequest),
        "ModelReady": (catalogue.model_ready, messages.ModelReadyRequest),
        "ServerMetadata": (catalogue.server_metadata, messages.ServerMetadataRequest),
        "ModelMetadata": (catalogue.model_metadata, messages.ModelMetadataRequest),
        "ModelConfig": (catalogue.model_config, messages.ModelConfigRequest),
        "ModelStatistics": (catalogue.model_statistics, messages.ModelStatisticsRequest),
        "RepositoryIndex": (catalogue.repository_index, messages.RepositoryIndexRequest),
        "RepositoryModelLoad": (catalogue.load, messages.RepositoryModelLoadRequest),
        "RepositoryModelUnload": (catalogue.unload, messages.RepositoryModelUnloadRequest),
    }
    inference = Inference(asking)
    return grpc.method_handlers_generic_handler(
        NAME,
        {
            **{name: _unary(call, asked) for name, (call, asked) in plain.items()},
            **{name: _unserved(extension) for name, extension in _UNSERVED.items()},
            "ModelInfer": grpc.unary_unary_rpc_method_handler(inference.infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(inference.stream),
        },
    )


class Inference:
    """Takes and gives the bytes of messages, for what they hold is read where errors have an answer."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def infer(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        caller = Caller.of(context.invocation_metadata(), context.time_remaining())
        reply = await self._asking.ask(data, caller)
        if reply.error is not None:
            await _abort(context, reply.error, reply.metadata)
        context.set_trailing_metadata(reply.metadata)
        assert reply.answer is not None
        return reply.answer.SerializeToString()

    async def stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """Answers come in the order of their requests, which are asked side by side; a client that does not take its answers
        is not read any further."""
        asked: asyncio.Queue[asyncio.Task[Reply] | None] = asyncio.Queue(_AHEAD)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(requests, context, asked, group))
            while (task := await asked.get()) is not None:
                await context.write(_streamed(await task).SerializeToString())

    async def _read(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext,
        asked: asyncio.Queue[asyncio.Task[Reply] | None],
        group: asyncio.TaskGroup,
    ) -> None:
        metadata = context.invocation_metadata()
        async for data in requests:
            caller = Caller.of(metadata, context.time_remaining())
            await asked.put(group.create_task(self._asking.ask(data, caller)))
        await asked.put(None)


def _streamed(reply: Reply) -> ModelStreamInferResponse:
    """An error has the request's names beside it, so that a client knows which of its requests met it. Every request has one
    answer, which is the final one."""
    if reply.error is not None:
        named = ModelInferResponse(
            model_name=reply.asked.model_name, model_version=reply.asked.model_version, id=reply.asked.id
        )
        return ModelStreamInferResponse(error_message=public(reply.error).message, infer_response=named)
    assert reply.answer is not None
    reply.answer.parameters["triton_final_response"].bool_param = True
    return ModelStreamInferResponse(infer_response=reply.answer)


def _unary(call: Callable[[Any], Awaitable[Message]], asked: type[Message]) -> grpc.RpcMethodHandler:
    async def handle(request: Message, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return (await call(request)).SerializeToString()
        except Exception as error:
            if not isinstance(error, MaasError):
                structlog.get_logger("maas.api").error(
                    "request_met_a_bug", path=asked.DESCRIPTOR.name, exc_info=error
                )
            await _abort(context, error, as_metadata(headers_of(error)))
            raise

    return grpc.unary_unary_rpc_method_handler(handle, request_deserializer=asked.FromString)


def _unserved(extension: str) -> grpc.RpcMethodHandler:
    async def handle(_data: bytes, context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the extension {extension} is not served")

    return grpc.unary_unary_rpc_method_handler(handle)


async def _abort(context: grpc.aio.ServicerContext, error: Exception, metadata: Metadata) -> None:
    """End the call, by an exception of gRPC's own."""
    await context.abort(grpc.StatusCode[grpc_code_of(error)], public(error).message, metadata)
