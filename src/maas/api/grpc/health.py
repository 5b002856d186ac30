"""`grpc.health.v1`: whether the server may be sent traffic, for it as a whole and for the inference service by name.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from maas.api.grpc.service import NAME
from maas.gateway import Gateway

_LOOK_SECONDS = 0.5  # between two looks for who watches: readiness has many causes, and none of them tells


class Health(HealthServicer):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def Check(  # noqa: N802 - the protocol's name
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> HealthCheckResponse:
        if request.service not in ("", NAME):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service[:80]!r}")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802 - the protocol's name
        self, request: HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:
        told = None
        while True:
            if (status := self._status(request.service)) != told:
                await context.write(HealthCheckResponse(status=status))
                told = status
            await asyncio.sleep(_LOOK_SECONDS)

    def _status(self, service: str) -> str:
        if service not in ("", NAME):
            return "SERVICE_UNKNOWN"
        return "SERVING" if self._gateway.readiness().is_ready else "NOT_SERVING"
