"""Reflection: a client without our file asks for it. `v1` and `v1alpha` are the same messages under two names.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as V1ALPHA
from grpc_reflection.v1alpha.reflection import aio

from maas.api.grpc import messages
from maas.api.grpc.health import HEALTH
from maas.api.grpc.held import Held
from maas.api.grpc.service import NAME, parse, streaming

V1 = V1ALPHA.replace("v1alpha", "v1")


def reflection_handlers(held: Held) -> list[grpc.GenericRpcHandler]:
    """Of all services that there are, these two with them."""
    servicer = aio.ReflectionServicer((NAME, HEALTH, V1, V1ALPHA), pool=_pool())

    async def reflect(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        with held.stream():
            async for answer in servicer.ServerReflectionInfo(_parsed(requests), context):
                await context.write(answer.SerializeToString())

    calls = {"ServerReflectionInfo": streaming(reflect)}
    return [grpc.method_handlers_generic_handler(name, calls) for name in (V1, V1ALPHA)]


async def _parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    async for data in requests:
        yield parse(reflection_pb2.ServerReflectionRequest, data)


def _pool() -> DescriptorPool:
    """What is served, and nothing else."""
    pool = DescriptorPool()
    alpha = _as_message(reflection_pb2.DESCRIPTOR)
    for file in (
        _as_message(messages.DESCRIPTOR),
        _as_message(health_pb2.DESCRIPTOR),
        alpha,
        _renamed(alpha),
    ):
        pool.Add(file)
    return pool


def _as_message(file: FileDescriptor) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(file.serialized_pb)


def _renamed(alpha: FileDescriptorProto) -> FileDescriptorProto:
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    return text_format.Parse(text, FileDescriptorProto())
