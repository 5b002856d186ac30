"""Health and metadata of the server and of models."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import JSONResponse

import maas
from maas.api.oip.datatypes import DATATYPES
from maas.api.oip.extensions import EXTENSIONS
from maas.elements import Scalar
from maas.errors import ModelNotReady
from maas.gateway import Gateway
from maas.models.live import LiveVersion, VersionState
from maas.models.registry import Registry
from maas.types import Signature, TensorSpec, clip

_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not now; the body says why."}}


def routes(gateway: Gateway) -> APIRouter:
    """Health and metadata."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("/health/live", summary="The process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Models may be sent traffic", responses=_NOT_READY)
    async def ready() -> JSONResponse:
        return _ready(gateway)

    @router.get("", summary="Server metadata")
    @router.get("/", include_in_schema=False)
    async def server() -> dict[str, Any]:
        return {"name": "maas", "version": maas.__version__, "extensions": list(EXTENSIONS)}

    @router.get("/models/{model}", summary="Model metadata")
    async def model_metadata(model: str) -> dict[str, Any]:
        return describe_model(gateway.registry, gateway.registry.resolve(model))

    @router.get("/models/{model}/versions/{version}", summary="Model metadata of a version")
    async def model_metadata_version(model: str, version: str) -> dict[str, Any]:
        return describe_model(gateway.registry, gateway.registry.resolve(model, version))

    @router.get("/models/{model}/ready", summary="The model may be sent traffic", responses=_NOT_READY)
    async def model_ready(model: str) -> JSONResponse:
        return _model_ready(gateway, model, None)

    @router.get(
        "/models/{model}/versions/{version}/ready",
        summary="The version may be sent traffic",
        responses=_NOT_READY,
    )
    async def model_ready_version(model: str, version: str) -> JSONResponse:
        return _model_ready(gateway, model, version)

    return router


def _ready(gateway: Gateway) -> JSONResponse:
    readiness = gateway.readiness()
    body: dict[str, Any] = {"ready": readiness.is_ready}
    if readiness.reason:
        body["error"] = readiness.reason
    if readiness.failed:
        body["failed"] = readiness.failed
    return JSONResponse(body, 200 if readiness.is_ready else 503)


def _model_ready(gateway: Gateway, model: str, version: str | None) -> JSONResponse:
    if gateway.registry.is_unloaded(model, version):
        raise ModelNotReady(f"model {clip(model)!r} is not ready: it is unloaded")
    live = gateway.registry.resolve(model, version)
    body: dict[str, Any] = {"name": live.name, "version": live.version}
    if reason := gateway.outage_of(live):
        return JSONResponse({**body, "ready": False, "error": f"{live.label} is not ready: {reason}"}, 503)
    return JSONResponse({**body, "ready": True})


def describe_model(registry: Registry, live: LiveVersion) -> dict[str, Any]:
    """With the names and the types of the protocol's message. Its properties are texts: what has a structure is JSON in one."""
    manifest = live.manifest
    return {
        "name": live.name,
        "versions": [other.version for other in registry.versions_of(live.name) if _may_be_asked(other)],
        "platform": manifest.runtime.name,
        "inputs": [_describe_tensor(spec) for spec in live.signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in live.signature.outputs],
        "properties": {
            "version": live.version,
            "digest": live.digest,
            "description": manifest.description,
            "license": manifest.license or "",
            "card": orjson.dumps(manifest.card, option=orjson.OPT_NON_STR_KEYS).decode(),
            "curve": orjson.dumps(live.curve).decode(),
            "defaults": orjson.dumps(_defaults_of(live.signature)).decode(),
        },
    }


def _defaults_of(signature: Signature) -> dict[str, Scalar | None]:
    """Of the inputs that may be left out."""
    return {spec.name: spec.plain_default for spec in signature.inputs if spec.default is not None}


def _may_be_asked(live: LiveVersion) -> bool:
    """Now, or when it has loaded."""
    return live.state in (VersionState.LOADING, VersionState.READY)


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    """A dimension that is not fixed is -1."""
    shape = [dim if isinstance(dim, int) else -1 for dim in spec.dims]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}
