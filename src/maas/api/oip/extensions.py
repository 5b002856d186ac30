"""The routes of the protocol's extensions: a model's configuration and statistics, and the repository."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from maas.api.admin import Control
from maas.api.body import check_length, parse_object
from maas.api.oip.config import model_config
from maas.api.oip.parameters import Parameters, flag, parameters_of
from maas.api.oip.repository import entry_of, load, repository_index, unload
from maas.api.oip.statistics import model_statistics
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.telemetry.metrics import Metrics

RAW_TENSORS = "binary_tensor_data"
EXTENSIONS = (
    RAW_TENSORS,
    "parameters",
    "schedule_policy",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)
"""Those that are served."""

_NOT_SERVED = {
    "/systemsharedmemory{rest:path}": "system_shared_memory",
    "/cudasharedmemory{rest:path}": "cuda_shared_memory",
    "/trace{rest:path}": "trace",
    "/models/{model}/trace/setting": "trace",
    "/logging{rest:path}": "logging",
}
_MAX_BODY = 64 << 10  # bytes


def extensions(gateway: Gateway, metrics: Metrics, control: Control) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    resolve = gateway.registry.resolve

    @router.get("/models/{model}/config", summary="Model configuration")
    async def config(model: str) -> dict[str, Any]:
        return model_config(gateway.registry, resolve(model))

    @router.get("/models/{model}/versions/{version}/config", summary="Model configuration of a version")
    async def config_version(model: str, version: str) -> dict[str, Any]:
        return model_config(gateway.registry, resolve(model, version))

    def statistics_of(versions: list[LiveVersion]) -> dict[str, Any]:
        return {"model_stats": [model_statistics(metrics, live) for live in versions]}

    @router.get("/models/stats", summary="Statistics of all models")
    async def all_statistics() -> dict[str, Any]:
        return statistics_of(gateway.registry.versions())

    @router.get("/models/{model}/stats", summary="Statistics of a model's versions")
    async def statistics(model: str) -> dict[str, Any]:
        return statistics_of(gateway.registry.versions_of(model) or [resolve(model)])

    @router.get("/models/{model}/versions/{version}/stats", summary="Statistics of a version")
    async def statistics_version(model: str, version: str) -> dict[str, Any]:
        return statistics_of([resolve(model, version)])

    for path, extension in _NOT_SERVED.items():
        router.add_api_route(path, _refusing(extension), methods=["GET", "POST"], include_in_schema=False)
    _add_repository(router, gateway, control)
    return router


def _refusing(extension: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def refuse() -> None:
        raise HTTPException(404, f"the extension {extension!r} is not served")

    return refuse


def _add_repository(router: APIRouter, gateway: Gateway, control: Control) -> None:
    registry = gateway.registry

    @router.post("/repository/index", summary="Models in the repository")
    async def index(request: Request) -> list[dict[str, str]]:
        return repository_index(registry, only_ready=flag(await _read(request), "ready", False))

    @router.post(
        "/repository/models/{model}/load",
        summary="Serve what is configured of the model, and answer when it is ready",
        responses=control.responses,
    )
    async def load_model(model: str, request: Request) -> dict[str, str]:
        control.check()
        return entry_of(await load(registry, model, parameters_of(await _read(request), "")))

    @router.post("/repository/models/{model}/unload", summary="Drain the model", responses=control.responses)
    async def unload_model(model: str, request: Request) -> list[dict[str, str]]:
        control.check()
        return list(map(entry_of, unload(registry, model, parameters_of(await _read(request), ""))))


async def _read(request: Request) -> Parameters:
    """The JSON object of a body that may be missing."""
    body = await request.body()
    check_length(len(body), _MAX_BODY)
    return parse_object(body, allow_non_finite=False) if body else {}
