"""The models as OpenAI's clients list them and as those of the V1 protocol do: one answer has the members of both."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.convertors import StringConvertor, register_url_convertor

from maas.api.errors import status_of
from maas.errors import InvalidRequest, MaasError, ModelNotFound, ModelNotReady
from maas.gateway import Gateway
from maas.models.live import LiveVersion


class _ModelName(StringConvertor):
    """Without a colon, behind which a verb stands: `name:predict` is another path, which is not read with GET."""

    regex = "[^/:]+"


register_url_convertor("model_name", _ModelName())

_OWNER = "maas"
_KIND = "model"
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not now; the body says why."}}


def render_error(error: MaasError, _request_id: str) -> bytes:
    """OpenAI's error object."""
    is_theirs = isinstance(error, InvalidRequest | ModelNotFound) or status_of(error) < 500
    told = {
        "message": error.message,
        "type": "invalid_request_error" if is_theirs else "server_error",
        "param": None,
        "code": error.code,
    }
    return orjson.dumps({"error": told})


def listing(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["models"])
    registry = gateway.registry

    @router.get("/", summary="The process answers, in the V1 protocol's words")
    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/v1/models", summary="Models that are served, for clients of OpenAI and of V1")
    async def list_v1_models() -> dict[str, Any]:
        newest = {live.name: live for live in registry.versions()}  # which are in their order
        return {"object": "list", "data": list(map(_card, newest.values())), "models": list(newest)}

    @router.get(
        "/v1/models/{model:model_name}", summary="A model and whether it is ready", responses=_NOT_READY
    )
    async def get_v1_model(model: str) -> JSONResponse:
        if registry.is_unloaded(model):
            raise ModelNotReady(f"model {model!r} is not ready: it is unloaded")
        live = gateway.resolve(model)
        if reason := gateway.outage_of(live):
            raise ModelNotReady(f"model {live.name!r} is not ready: {reason}")
        return JSONResponse({**_card(live), "name": live.name, "ready": True})

    return router


def _card(live: LiveVersion) -> dict[str, Any]:
    """`created` is seconds of the epoch, when the version was published."""
    created = int(live.manifest.created.timestamp())
    return {"id": live.name, "object": _KIND, "created": created, "owned_by": _OWNER}
