"""The OpenAPI document: what FastAPI knows of the plain routes, the hot ones, and a typed operation for each version.

A version's operation has its tensors' names, types and shapes, and an example that its own golden samples gave, so that
the documentation page can call it with one click. The document is made anew when a version comes, goes or changes.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from maas.api.openapi.bodies import inference_schemas
from maas.api.openapi.errors import correct_errors, error_schemas
from maas.api.openapi.headers import declare_names
from maas.api.openapi.inference import infer_operation, predict_operation, schema_name, v1_operation
from maas.api.openapi.schema import Schema
from maas.api.openapi.tensors import object_of
from maas.gateway import Gateway
from maas.models.live import VersionState


def document_of(app: FastAPI, gateway: Gateway) -> Callable[[], Schema]:
    """A function that gives the document, made again only when the versions have changed."""
    cache: dict[object, Schema] = {}

    def document() -> Schema:
        versions = gateway.registry.versions()
        key = tuple((live.label, live.state, gateway.registry.is_default(live)) for live in versions)
        if key not in cache:
            cache.clear()
            cache[key] = _document(app, gateway)
        return cache[key]

    return document


def _document(app: FastAPI, gateway: Gateway) -> Schema:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(error_schemas())
    schemas.update(inference_schemas())
    paths = document["paths"]
    correct_errors(document)
    declare_names(document)
    for live in gateway.registry.versions():
        if live.state is VersionState.READY:
            for kind, specs in (("Request", live.signature.inputs), ("Response", live.signature.outputs)):
                schemas[f"{schema_name(live)}.{kind}"] = object_of(live, kind, specs)
            if gateway.registry.is_default(live):
                paths[f"/predict/{live.name}"] = {"post": predict_operation(live, f"predict.{live.name}")}
            operation = predict_operation(live, f"predict-version.{schema_name(live)}")
            paths[f"/predict/{live.name}/versions/{live.version}"] = {"post": operation}
    for suffix, name in (("", "infer"), ("/versions/{version}", "infer-version")):
        paths[f"/v2/models/{{model}}{suffix}/infer"] = {"post": infer_operation(name)}
        paths[f"/v1/models/{{model}}{suffix}:predict"] = {
            "post": v1_operation(name.replace("infer", "v1-predict"))
        }
    return document
