"""For operators: metrics, and which versions are served.

Loading and unloading is for who stands at the machine: with `access: loopback`, or where the configuration says
`allow_control: true`. A proxy on the same machine makes a loopback bind reachable, and needs `access: open`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from maas.errors import Forbidden
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.telemetry.metrics import CONTENT_TYPE, Metrics


def operations(metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/metrics", summary="Metrics in the Prometheus text format", response_class=Response)
    async def expose() -> Response:
        return Response(metrics.expose(), media_type=CONTENT_TYPE)

    return router


@dataclass(frozen=True, slots=True)
class Control:
    """Whether whoever reaches the server may load and unload, in every dialect."""

    is_allowed: bool

    def check(self) -> None:
        """Raise `Forbidden` unless it is so."""
        if not self.is_allowed:
            raise Forbidden(
                "models are loaded and unloaded with `access: loopback`, or where the configuration says `allow_control: true`"
            )

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """What a route says of the refusal in the OpenAPI document."""
        return {403: {"description": "Others can reach the server."}}


def control(gateway: Gateway, allowed: Control) -> APIRouter:
    """Load and unload versions while the others are served, if it is `allowed`."""
    router = APIRouter(prefix="/admin", tags=["operations"], responses=allowed.responses)
    registry = gateway.registry
    check_allowed = allowed.check

    @router.post("/refresh", summary="Look at the repository again: load what is new, drain what is gone")
    async def refresh() -> dict[str, Any]:
        check_allowed()
        registry.refresh()
        return {"models": list(map(_state, registry.versions()))}

    @router.post(
        "/models/{model}/load",
        summary="Serve what is configured of a model, and answer when it is ready or failed",
    )
    async def load(model: str) -> dict[str, Any]:
        check_allowed()
        return await _settled(registry.load(model))

    @router.post("/models/{model}/versions/{version}/load", summary="Serve a version")
    async def load_version(model: str, version: str) -> dict[str, Any]:
        check_allowed()
        return await _settled(registry.load(model, version))

    @router.post("/models/{model}/unload", summary="Drain a model, and serve it no more until it is loaded")
    async def unload(model: str) -> dict[str, Any]:
        check_allowed()
        return {"models": list(map(_state, registry.unload(model)))}

    @router.post("/models/{model}/versions/{version}/unload", summary="Drain a version")
    async def unload_version(model: str, version: str) -> dict[str, Any]:
        check_allowed()
        return {"models": list(map(_state, registry.unload(model, version)))}

    return router


async def _settled(live: LiveVersion) -> dict[str, Any]:
    await live.settled.wait()
    return _state(live)


def _state(live: LiveVersion) -> dict[str, Any]:
    return {"name": live.name, "version": live.version, "state": live.state, "reason": live.reason}
