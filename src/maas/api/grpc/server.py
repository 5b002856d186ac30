"""The gRPC server: the service, its health and its reflection on a port of their own, in the gateway's process and loop."""

from __future__ import annotations

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from maas.api.admin import Control
from maas.api.door import Door
from maas.api.grpc import messages
from maas.api.grpc.asking import Asking
from maas.api.grpc.catalogue import Catalogue
from maas.api.grpc.health import Health
from maas.api.grpc.service import NAME, handlers
from maas.batching.backlog import Backlog
from maas.config import Configuration
from maas.errors import ConfigurationError
from maas.gateway import Gateway
from maas.telemetry.metrics import Metrics
from maas.telemetry.requests import RequestRecorder

_MOST_BYTES = (1 << 31) - 1  # of a message: gRPC holds the number in 32 bits
_AROUND = 1 << 20  # bytes of a message beside its tensors


class GrpcServer:
    """Made within a running loop. Listens from `start` to `stop`."""

    def __init__(
        self,
        configuration: Configuration,
        gateway: Gateway,
        door: Door,
        recorder: RequestRecorder,
        backlog: Backlog,
        metrics: Metrics,
    ) -> None:
        self.port = 0
        self._options = configuration.server
        self._server = grpc.aio.server(options=_options(configuration))
        asking = Asking(gateway, door, recorder, backlog)
        catalogue = Catalogue(gateway, metrics, Control(configuration.may_control))
        self._server.add_generic_rpc_handlers((handlers(asking, catalogue),))
        health_pb2_grpc.add_HealthServicer_to_server(Health(gateway), self._server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_reflection(), self._server)

    async def start(self) -> None:
        """Listen; beside another that does at the same address, which is to stop. Raises `ConfigurationError` where it
        cannot."""
        host, port = self._options.host, self._options.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(f"server: cannot listen on {address} for gRPC") from error
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Listen no more and tell clients to connect anew; calls may take so many seconds yet."""
        await self._server.stop(seconds)


def _options(configuration: Configuration) -> list[tuple[str, int]]:
    server = configuration.server
    return [
        ("grpc.max_receive_message_length", min(configuration.limits.body_bytes + _AROUND, _MOST_BYTES)),
        ("grpc.max_send_message_length", -1),  # answers are bounded where they are made
        ("grpc.max_metadata_size", server.header_bytes),
        ("grpc.absolute_max_metadata_size", server.header_bytes),
        ("grpc.max_connection_idle_ms", round(server.keep_alive_timeout * 1e3)),
        ("grpc.so_reuseport", 1),  # so that a successor can listen before its predecessor stops
    ]


def _reflection() -> reflection.aio.ReflectionServicer:
    """Of what is served, out of a pool that holds nothing else."""
    pool = DescriptorPool()
    for file in (messages.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.Add(_as_message(file))
    names = (NAME, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    return reflection.aio.ReflectionServicer(names, pool=pool)


def _as_message(file: FileDescriptor) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(file.serialized_pb)
