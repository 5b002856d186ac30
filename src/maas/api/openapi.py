"""The OpenAPI document: what FastAPI knows of the plain routes, the hot ones, and a typed operation for each version.

A version's operation has its tensors' names, types and shapes, and an example that its own golden samples gave, so that
the documentation page can call it with one click. The document is made anew when a version comes, goes or changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from maas.gateway import Gateway
from maas.models.live import LiveVersion, VersionState
from maas.types import BATCH, TensorSpec

Schema = dict[str, Any]

_PREDICT_ERROR = "PredictError"
_INFER_ERROR = "InferError"
_ERRORS = {
    "400": "The request is not what the model declares; the message names the tensor.",
    "404": "No such model or version.",
    "413": "The body is over the model's limit.",
    "415": "The body is not JSON.",
    "500": "The model failed.",
    "503": "Refused for now: the queue is full, the model is not ready, or the server is shutting down.",
    "504": "No answer before the deadline.",
}


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
    schemas.update(_shared_schemas())
    paths = document["paths"]
    _correct_errors(document)
    for live in gateway.registry.versions():
        if live.state is VersionState.READY:
            schemas[f"{_schema_name(live)}.Request"] = _object(live, live.signature.inputs)
            schemas[f"{_schema_name(live)}.Response"] = _object(live, live.signature.outputs)
            if gateway.registry.is_default(live):
                paths[f"/predict/{live.name}"] = {"post": _predict_operation(live, f"predict:{live.name}")}
            operation = _predict_operation(live, f"predict-version:{live.name}:{live.version}")
            paths[f"/predict/{live.name}/versions/{live.version}"] = {"post": operation}
    for suffix, name in (("", "infer"), ("/versions/{version}", "infer-version")):
        paths[f"/v2/models/{{model}}{suffix}/infer"] = {"post": _infer_operation(name)}
    return document


def _correct_errors(document: Schema) -> None:
    """FastAPI announces its own 422, which no route of ours gives; those that name a model answer 404."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if operation["responses"].pop("422", None):
                schema = _INFER_ERROR if path.startswith("/v2/") else _PREDICT_ERROR
                missing = {"description": _ERRORS["404"], "content": _json(_ref(schema))}
                operation["responses"]["404"] = missing
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _schema_name(live: LiveVersion) -> str:
    """Unique, with the few characters that OpenAPI allows: the one odd run of dots ends the model's name."""
    return f"{live.name.replace('.', '..')}.{live.version}"


def _predict_operation(live: LiveVersion, operation_id: str) -> Schema:
    schema = _schema_name(live)
    return {
        "tags": ["predict"],
        "summary": live.manifest.description or f"Predict with {live.label}",
        "description": "A value of the declared rank is a batch, one rank lower a single sample; the answer mirrors it.",
        "operationId": operation_id,
        "requestBody": {"required": True, "content": _json(_ref(f"{schema}.Request"), live.example.inputs)},
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": _ANSWER_HEADERS,
                "content": _json(_ref(f"{schema}.Response"), live.example.outputs),
            },
            **_error_responses(_PREDICT_ERROR),
        },
    }


def _infer_operation(operation_id: str) -> Schema:
    names = ["model", "version"] if operation_id == "infer-version" else ["model"]
    return {
        "tags": ["Open Inference Protocol"],
        "summary": "Inference",
        "operationId": operation_id,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "requestBody": {"required": True, "content": _json(_ref("InferRequest"))},
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": _ANSWER_HEADERS,
                "content": _json(_ref("InferResponse")),
            },
            **_error_responses(_INFER_ERROR),
        },
    }


_ANSWER_HEADERS: Schema = {
    "X-Model-Version": {"description": "NAME/VERSION that answered.", "schema": {"type": "string"}},
    "X-Model-Digest": {"description": "SHA-256 of the version's manifest.", "schema": {"type": "string"}},
    "Server-Timing": {
        "description": "Milliseconds in queue, compute and in all.",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {"description": "The request's id, yours or made.", "schema": {"type": "string"}},
}


def _error_responses(schema: str) -> Schema:
    return {status: {"description": text, "content": _json(_ref(schema))} for status, text in _ERRORS.items()}


def _json(schema: Schema, example: object = None) -> Schema:
    media: Schema = {"schema": schema}
    if example and _is_plain_json(example):
        media["example"] = example
    return {"application/json": media}


def _is_plain_json(example: object) -> bool:
    """Whether the document can hold it: a model that allows NaN may have it in its golden samples."""
    try:
        json.dumps(example, allow_nan=False)
    except ValueError:
        return False
    return True


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(live: LiveVersion, specs: tuple[TensorSpec, ...]) -> Schema:
    return {
        "type": "object",
        "title": live.label,
        "properties": {spec.name: _tensor(live, spec) for spec in specs},
        "required": [spec.name for spec in specs],
        "additionalProperties": False,
    }


def _tensor(live: LiveVersion, spec: TensorSpec) -> Schema:
    """A single sample or a batch of them, where the tensor carries `batch`; else what is declared."""
    declared = _nested(live, spec, spec.dims)
    if spec.batch_axis is None:
        return {"description": spec.declaration, **declared}
    return {"description": spec.declaration, "anyOf": [_nested(live, spec, spec.sample_dims), declared]}


def _nested(live: LiveVersion, spec: TensorSpec, dims: tuple[int | str, ...]) -> Schema:
    schema = _element(spec)
    for dim in reversed(dims):
        least, most = _lengths(live, dim)
        schema = {"type": "array", "items": schema, "minItems": least}
        if most is not None:
            schema["maxItems"] = most
    return schema


def _lengths(live: LiveVersion, dim: int | str) -> tuple[int, int | None]:
    if isinstance(dim, int):
        return dim, dim
    if dim == BATCH:
        return 1, live.policy.max_batch_size
    bounds = live.signature.limits_of(dim)
    return bounds.min, bounds.max


def _element(spec: TensorSpec) -> Schema:
    match spec.numpy_dtype.kind:
        case "b":
            return {"type": "boolean"}
        case "O":
            return {"type": "string"}
        case "f":
            return {"type": "number"}
    info = np.iinfo(spec.numpy_dtype)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def _shared_schemas() -> dict[str, Schema]:
    text = {"type": "string"}
    named = {"type": "object", "properties": {"name": text}, "required": ["name"]}
    tensor = {
        "type": "object",
        "properties": {
            "name": text,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": text,
            "data": {"type": "array", "items": {}, "description": "Flat in row-major order, or nested."},
        },
        "required": ["name", "shape", "datatype", "data"],
    }
    tensors = {"type": "array", "items": _ref("InferTensor")}
    return {
        _PREDICT_ERROR: {
            "type": "object",
            "properties": {"error": text, "code": text, "request_id": text},
            "required": ["error", "code", "request_id"],
        },
        _INFER_ERROR: {"type": "object", "properties": {"error": text}, "required": ["error"]},
        "InferTensor": tensor,
        "InferRequest": {
            "type": "object",
            "properties": {"id": text, "inputs": tensors, "outputs": {"type": "array", "items": named}},
            "required": ["inputs"],
        },
        "InferResponse": {
            "type": "object",
            "properties": {"model_name": text, "model_version": text, "id": text, "outputs": tensors},
            "required": ["model_name", "outputs"],
        },
    }
