"""What operators ask for: metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from maas.telemetry.metrics import CONTENT_TYPE, Metrics


def operations(metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/metrics", summary="Metrics in the Prometheus text format", response_class=Response)
    async def expose() -> Response:
        return Response(metrics.expose(), media_type=CONTENT_TYPE)

    return router
