"""The OpenAPI document: what FastAPI knows of the plain routes, the hot ones, and a typed operation for each version.

A version's operation has its tensors' names, types and shapes, and an example that its own golden samples gave, so that
the documentation page can call it with one click. The document is made anew when a version comes, goes or changes.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from maas.api.openapi.answers import declare_bodies
from maas.api.openapi.bodies import inference_schemas
from maas.api.openapi.errors import declare_errors
from maas.api.openapi.headers import declare_headers
from maas.api.openapi.inference import add_examples, dialect_operations, predict_operations
from maas.api.openapi.names import names_of
from maas.api.openapi.schema import Schema
from maas.api.openapi.tensors import version_schemas
from maas.gateway import Gateway
from maas.models.live import VersionState
from maas.models.registry import Registry


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
    document.setdefault("components", {}).setdefault("schemas", {})
    declare_errors(document)
    declare_bodies(document)
    declare_headers(document)
    paths, schemas = document["paths"], document["components"]["schemas"]
    schemas |= inference_schemas()
    paths |= dialect_operations()
    _add_versions(paths, schemas, gateway.registry)
    return document


def _add_versions(paths: Schema, schemas: Schema, registry: Registry) -> None:
    """The typed operations of all that are ready, in an order that does not tell which came first. The others have their names
    too, which are the same before and after."""
    operations = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    versions = sorted(registry.versions(), key=lambda live: live.labels)
    names = names_of(versions, schemas, operations)
    ready = [live for live in versions if live.state is VersionState.READY]
    for live in ready:
        schemas |= version_schemas(live, names[live.label])
        paths |= predict_operations(live, names[live.label], is_default=registry.is_default(live))
    add_examples(paths, filter(registry.is_default, ready))
