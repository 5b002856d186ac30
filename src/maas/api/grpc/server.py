"""The gRPC server: the service, its health and its reflection on a port of their own, in the gateway's process and loop."""

from __future__ import annotations

import asyncio

import grpc.aio

from maas.api.admin import Control
from maas.api.door import Door
from maas.api.grpc.asking import Asking
from maas.api.grpc.catalogue import Catalogue
from maas.api.grpc.health import health_handlers
from maas.api.grpc.held import Held
from maas.api.grpc.reflection import reflection_handlers
from maas.api.grpc.service import Inference, handlers
from maas.batching.backlog import Backlog
from maas.config import Configuration
from maas.errors import ConfigurationError
from maas.gateway import Gateway
from maas.telemetry.metrics import Metrics
from maas.telemetry.requests import RequestRecorder

_MOST_BYTES = (1 << 31) - 1  # of a message: gRPC holds the number in 32 bits
_AROUND = 1 << 20  # bytes of a message beside its tensors
_MOST_CALLS = 1024  # of one connection at once; more wait at the client
_MOST_STREAMS = 256  # over all connections
_GATHERING, _SAYING = 0.1, 0.05  # seconds: in which callers ask again; and hear that the server stops


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
        most_connections: int,
    ) -> None:
        self.port = 0
        self._options = configuration.server
        self._server = grpc.aio.server(options=_options(configuration, most_connections))
        self.held = held = Held(
            configuration.limits.waiting_bytes, _message_bytes(configuration), _MOST_STREAMS
        )
        self._inference = Inference(Asking(gateway, door, recorder, backlog, held), held)
        catalogue = Catalogue(gateway, metrics, Control(configuration.may_control))
        services = [handlers(self._inference, catalogue, held), health_handlers(gateway, held)]
        self._server.add_generic_rpc_handlers((*services, *reflection_handlers(held)))

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
        """Listen no more and tell clients to connect anew; calls may take so many seconds yet.

        gRPC cancels a call that comes between its stop and its client's hearing of it. So answers are kept until it is said:
        who asks again when answered, as most do, has heard of it by then.
        """
        self._inference.may_answer.clear()
        await asyncio.sleep(min(_GATHERING, seconds))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.stop(seconds))
            await asyncio.sleep(min(_SAYING, seconds))
            self._inference.may_answer.set()


def _message_bytes(configuration: Configuration) -> int:
    return min(configuration.limits.body_bytes + _AROUND, _MOST_BYTES)


def _options(configuration: Configuration, most_connections: int) -> list[tuple[str, int]]:
    server = configuration.server
    return [
        ("grpc.max_receive_message_length", _message_bytes(configuration)),
        ("grpc.max_send_message_length", -1),  # answers are bounded where they are made
        ("grpc.max_metadata_size", server.header_bytes),
        ("grpc.absolute_max_metadata_size", server.header_bytes),
        ("grpc.max_allowed_incoming_connections", most_connections),
        ("grpc.max_concurrent_streams", _MOST_CALLS),
        # Who says nothing, who has said nothing for long, and who is gone without a word while a call of theirs runs.
        ("grpc.server_handshake_timeout_ms", round(server.idle_timeout * 1e3)),
        ("grpc.max_connection_idle_ms", round(server.keep_alive_timeout * 1e3)),
        ("grpc.keepalive_time_ms", round(server.keep_alive_timeout * 1e3)),
        # Otherwise a stream may send 4 MiB before anybody asks for them; a message that is read has 1 MiB of room anyway.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.so_reuseport", 1),  # so that a successor can listen before its predecessor stops
    ]
