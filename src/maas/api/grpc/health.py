"""`grpc.health.v1`: whether the server may be sent traffic, for it as a whole and for the inference service by name.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from maas.api.grpc.held import Held
from maas.api.grpc.service import NAME, parse, streaming, unary
from maas.errors import ModelNotFound
from maas.gateway import Gateway

HEALTH = "grpc.health.v1.Health"

_LOOK_SECONDS = 0.5  # between two looks for who watches: readiness has many causes, and none of them tells


def health_handlers(gateway: Gateway, held: Held) -> grpc.GenericRpcHandler:
    health = Health(gateway, held)
    calls = {"Check": unary(health.check, HealthCheckRequest, held), "Watch": streaming(health.watch)}
    return grpc.method_handlers_generic_handler(HEALTH, calls)


class Health:
    def __init__(self, gateway: Gateway, held: Held) -> None:
        self._gateway = gateway
        self._held = held

    async def check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        """Raises what is NOT_FOUND for a service that is not there."""
        status = self._status(request.service)
        if status == "SERVICE_UNKNOWN":
            raise ModelNotFound(f"no service {request.service[:80]!r}")
        return HealthCheckResponse(status=status)

    async def watch(self, _messages: object, context: grpc.aio.ServicerContext) -> None:
        request = parse(HealthCheckRequest, await self._held.read(context))
        told = None
        with self._held.stream():
            while True:
                if (status := self._status(request.service)) != told:
                    await context.write(HealthCheckResponse(status=status).SerializeToString())
                    told = status
                await asyncio.sleep(_LOOK_SECONDS)

    def _status(self, service: str) -> str:
        """Of the server, of its service, or of the model of that name."""
        if service in ("", NAME):
            return "SERVING" if self._gateway.readiness().is_ready else "NOT_SERVING"
        try:
            live = self._gateway.resolve(service)
        except ModelNotFound:
            return "SERVICE_UNKNOWN"
        return "NOT_SERVING" if self._gateway.outage_of(live) else "SERVING"
