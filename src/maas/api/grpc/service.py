"""The service's methods as gRPC has them: what our own functions return or raise becomes messages, statuses and metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message

from maas.api.body import check_length
from maas.api.errors import grpc_code_of, headers_of, public
from maas.api.grpc import messages
from maas.api.grpc.asking import Asking, Caller
from maas.api.grpc.catalogue import Catalogue
from maas.api.grpc.held import Held, Unsent
from maas.api.grpc.messages import ModelInferResponse, ModelStreamInferResponse
from maas.api.grpc.reply import Metadata, Reply, as_metadata
from maas.errors import InvalidRequest, MaasError

NAME = "inference.GRPCInferenceService"

_AHEAD = 256  # requests of one stream that are asked while the first of them is not answered yet

_MOST_BYTES = 64 << 10  # of a message that has no tensors
_SMALL = 16 << 10  # bytes of an answer that is not worth counting

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


def handlers(inference: Inference, catalogue: Catalogue, held: Held) -> grpc.GenericRpcHandler:
    """One for each call of the service, and one for each that is known and not served. All read their messages themselves,
    and so are streams to gRPC; on the wire there is no difference."""
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
    return grpc.method_handlers_generic_handler(
        NAME,
        {
            **{name: unary(call, asked, held) for name, (call, asked) in plain.items()},
            **{name: _unserved(extension) for name, extension in _UNSERVED.items()},
            "ModelInfer": grpc.stream_unary_rpc_method_handler(inference.infer),
            "ModelStreamInfer": streaming(inference.stream),
        },
    )


class Inference:
    """Takes and gives the bytes of messages, for what they hold is read where errors have an answer. While `may_answer` is not
    set, answers to calls are kept."""

    def __init__(self, asking: Asking, held: Held) -> None:
        self._asking = asking
        self._held = held
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def infer(self, _messages: object, context: grpc.aio.ServicerContext) -> bytes:
        try:
            data = await self._held.read(context)
        except MaasError as error:
            self._asking.unread(error)
            await _refuse(context, error)
            raise
        caller = Caller.of(context.invocation_metadata(), context.time_remaining())
        reply = await self._asking.ask(data, caller)
        if not self.may_answer.is_set():
            await self.may_answer.wait()
        if reply.error is not None:
            await _abort(context, reply.error, reply.metadata)
        context.set_trailing_metadata(reply.metadata)
        assert reply.answer is not None
        content = reply.answer.SerializeToString()
        if len(content) > _SMALL:
            self._held.hold(len(content))
            context.add_done_callback(lambda _: self._held.let_go(len(content)))
        return content

    async def stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """Answers come in the order of their requests, which are asked side by side; a client that does not take its answers
        is not read any further."""
        with self._held.stream(), self._held.unsent() as unsent:
            await self._exchange(requests, context, unsent)

    async def _exchange(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext, unsent: Unsent
    ) -> None:
        asked: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_AHEAD)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(requests, context, asked, group, unsent))
            while (task := await asked.get()) is not None:
                content = await task
                await context.write(content)
                unsent.let_go(len(content))

    async def _read(
        self,
        requests: AsyncIterator[bytes],
        context: grpc.aio.ServicerContext,
        asked: asyncio.Queue[asyncio.Task[bytes] | None],
        group: asyncio.TaskGroup,
        unsent: Unsent,
    ) -> None:
        metadata = context.invocation_metadata()
        async for data in requests:
            caller = Caller.of(metadata, context.time_remaining())
            await asked.put(group.create_task(self._ask(data, caller, unsent)))
        await asked.put(None)

    async def _ask(self, data: bytes, caller: Caller, unsent: Unsent) -> bytes:
        content = _streamed(await self._asking.ask(data, caller))
        unsent.hold(len(content))
        return content


def _streamed(reply: Reply) -> bytes:
    """An error has the request's names beside it, so that a client knows which of its requests met it. Every request has one
    answer, which is the final one."""
    if reply.error is not None:
        answer = ModelInferResponse(
            model_name=reply.asked.model_name, model_version=reply.asked.model_version, id=reply.asked.id
        )
        message = public(reply.error).message
    else:
        assert reply.answer is not None
        answer, message = reply.answer, ""
    answer.parameters["triton_final_response"].bool_param = True
    return ModelStreamInferResponse(error_message=message, infer_response=answer).SerializeToString()


def unary(
    call: Callable[[Any], Awaitable[Message]], asked: type[Message], held: Held
) -> grpc.RpcMethodHandler:
    """The handler of a call whose errors are of our tree."""

    async def handle(_messages: object, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return (await call(parse(asked, await held.read(context)))).SerializeToString()
        except Exception as error:
            if not isinstance(error, MaasError):
                structlog.get_logger("maas.api").error(
                    "request_met_a_bug", path=asked.DESCRIPTOR.name, exc_info=error
                )
            await _refuse(context, error)
            raise

    return grpc.stream_unary_rpc_method_handler(handle)


def streaming(
    call: Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], Awaitable[None]],
) -> grpc.RpcMethodHandler:
    """The same of a stream of messages both ways."""

    async def handle(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        try:
            await call(requests, context)
        except MaasError as error:
            await _refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(handle)


def parse(asked: type[Message], data: bytes) -> Message:
    check_length(len(data), _MOST_BYTES)
    try:
        return asked.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"the message is no {asked.DESCRIPTOR.name}") from None


def _unserved(extension: str) -> grpc.RpcMethodHandler:
    async def handle(_messages: object, context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the extension {extension} is not served")

    return grpc.stream_unary_rpc_method_handler(handle)


async def _refuse(context: grpc.aio.ServicerContext, error: Exception) -> None:
    await _abort(context, error, as_metadata(headers_of(error)))


async def _abort(context: grpc.aio.ServicerContext, error: Exception, metadata: Metadata) -> None:
    """End the call, by an exception of gRPC's own."""
    await context.abort(grpc.StatusCode[grpc_code_of(error)], public(error).message, metadata)
