"""The FastAPI application: every dialect on one router, over one gateway."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import maas
from maas.api import admin, listing, native
from maas.api.codec import Codec
from maas.api.docs import add_docs
from maas.api.door import render_error
from maas.api.endpoint import InferenceEndpoint, is_inference
from maas.api.errors import headers_of, public, status_of
from maas.api.oip import extensions, metadata
from maas.api.openapi.document import document_of
from maas.api.request_id import RequestIds, request_id_of
from maas.api.routes import INFERENCE
from maas.errors import InvalidRequest, MaasError
from maas.gateway import Gateway
from maas.telemetry.metrics import Metrics
from maas.telemetry.requests import RequestRecorder
from maas.types import clip

_TAGS = [
    {"name": "predict", "description": "One typed operation for each model that is ready."},
    {"name": "models", "description": "What is served."},
    {"name": "Open Inference Protocol", "description": "Version 2 of the protocol, over REST."},
    {"name": "V1", "description": "Version 1 of the inference protocol."},
    {"name": "operations", "description": "For operators."},
]


class Application(FastAPI):
    """Inference goes past FastAPI's middlewares and router, which take longer than the request; all else goes by them."""

    inference: InferenceEndpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_inference(scope):
            await self.inference(scope, receive, send)
        else:
            await super().__call__(_as_get(scope), receive, send)


def _as_get(scope: Scope) -> Scope:
    """HEAD is answered as GET is (RFC 9110, 9.3.2); that no body is sent is for the server, which knows what it was asked."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def create_app(
    gateway: Gateway,
    codec: Codec,
    metrics: Metrics,
    recorder: RequestRecorder,
    *,
    allow_control: bool = False,
) -> FastAPI:
    """The whole HTTP surface. The router knows the paths of inference too, to say which method they take."""
    app = Application(
        title="maas",
        description="Models as a service.",
        version=maas.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # one path for each thing; and no answer is made of a Host header
        openapi_tags=_TAGS,
        generate_unique_id_function=_operation_id,
    )
    app.inference = InferenceEndpoint(gateway, codec, recorder)
    app.router.routes[:0] = [Route(path, app.inference, methods=["POST"]) for path, _ in INFERENCE]
    app.include_router(native.catalogue(gateway))
    app.include_router(listing.listing(gateway))
    control = admin.Control(allow_control)
    app.include_router(extensions.extensions(gateway, metrics, control))  # before: `stats` is no model
    app.include_router(metadata.routes(gateway))
    app.include_router(admin.operations(metrics))
    app.include_router(admin.control(gateway, control))
    add_docs(app)
    app.add_exception_handler(MaasError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(RequestIds)
    app.openapi = document_of(app, gateway)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _operation_id(route: APIRoute) -> str:
    of_version = "-version" if "{version}" in route.path and not route.name.endswith("version") else ""
    return route.name.replace("_", "-") + of_version


def _on_error(request: Request, error: Exception) -> Response:
    return _render(request, status_of(error), public(error), dict(headers_of(error)))


def _on_bug(request: Request, error: Exception) -> Response:
    """An error outside our tree on a plain route. This runs outside of `RequestIds`, so the id is set here."""
    request_id = request_id_of(request.scope)
    structlog.get_logger("maas.api").error(
        "request_met_a_bug", path=request.scope["path"], request_id=request_id, exc_info=error
    )
    return _render(request, 500, public(error), {b"x-request-id": request_id.encode()})


def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the router itself refuses: no such path, or no such method there."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = f"{request.method} {clip(request.scope['path'], 200)}: {error.detail}"
    shown = InvalidRequest(message, code=codes.get(error.status_code, "http_error"))
    extra = {name.lower().encode(): value.encode() for name, value in (error.headers or {}).items()}
    return _render(request, error.status_code, shown, extra)


def _render(request: Request, status: int, error: MaasError, extra: dict[bytes, bytes]) -> Response:
    """The error in the dialect of the path."""
    body = render_error(request.scope["path"], error, request_id_of(request.scope))
    headers = {name.decode(): value.decode() for name, value in extra.items()}
    return Response(body, status, headers, media_type="application/json")
