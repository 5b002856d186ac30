"""The OpenAPI document: what FastAPI knows of the plain routes, the hot ones, and a typed operation for each version.

A version's operation has its tensors' names, types and shapes, and an example that its own golden samples gave, so that
the documentation page can call it with one click. The document is made anew when a version comes, goes or changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from maas.api.oip.datatypes import DATATYPES
from maas.api.oip.infer import MAX_ID
from maas.api.terms import PRIORITIES
from maas.gateway import Gateway
from maas.models.live import LiveVersion, VersionState
from maas.types import BATCH, DTYPES, MODEL_NAME, VERSION_NAME, TensorSpec

Schema = dict[str, Any]

_PREDICT_ERROR = "PredictError"
_INFER_ERROR = "InferError"
_PRIORITY = "Priority"
_NO_MODEL = "No such model or version."
_BUG = "A fault of the server's own; its log has it under the request's id."
_OPENAI_ERROR = "OpenAIError"
_ERRORS = {
    "400": "The request is not what the model declares; the message names the tensor.",
    "403": "The server takes no requests from other machines, or from web pages of another origin.",
    "404": _NO_MODEL,
    "408": "The body came too slowly.",
    "413": "The body is over the model's limit.",
    "415": "The body is not JSON.",
    "422": "The same input has ended a model process a moment ago.",
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
    _declare_names(document)
    for live in gateway.registry.versions():
        if live.state is VersionState.READY:
            for kind, specs in (("Request", live.signature.inputs), ("Response", live.signature.outputs)):
                schemas[f"{_schema_name(live)}.{kind}"] = _object(live, kind, specs)
            if gateway.registry.is_default(live):
                paths[f"/predict/{live.name}"] = {"post": _predict_operation(live, f"predict.{live.name}")}
            operation = _predict_operation(live, f"predict-version.{_schema_name(live)}")
            paths[f"/predict/{live.name}/versions/{live.version}"] = {"post": operation}
    for suffix, name in (("", "infer"), ("/versions/{version}", "infer-version")):
        paths[f"/v2/models/{{model}}{suffix}/infer"] = {"post": _infer_operation(name)}
        paths[f"/v1/models/{{model}}{suffix}:predict"] = {
            "post": _v1_operation(name.replace("infer", "v1-predict"))
        }
    return document


def _correct_errors(document: Schema) -> None:
    """FastAPI announces its own 422, which no route of ours gives; those that name a model answer 404. It knows of the other
    errors, where it is told of them, no body; any may be a 500."""
    for path, operations in document["paths"].items():
        schema = _error_schema_of(path)
        for operation in operations.values():
            responses = operation["responses"]
            if responses.pop("422", None):
                responses.setdefault("404", {"description": _NO_MODEL})
            responses.setdefault("500", {"description": _BUG})
            for status, response in responses.items():
                if status >= "400" and "content" not in response:
                    response.update(headers=_headers_of(status), content=_json(_ref(schema)))
            operation["responses"] = dict(sorted(responses.items()))
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _error_schema_of(path: str) -> str:
    if f"{path}/".startswith("/v2/"):
        return _INFER_ERROR
    return _OPENAI_ERROR if path.startswith("/v1/") else _PREDICT_ERROR


def _declare_names(document: Schema) -> None:
    """FastAPI knows of a name in a path only that it is text."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                parameter.update(_NAMES.get(parameter["name"], {}))


def _name_schema(pattern: re.Pattern[str]) -> Schema:
    return {"type": "string", "pattern": f"^{pattern.pattern}$"}


_NAMES: dict[str, Schema] = {
    "model": {
        "description": "A model's name; upper and lower case differ.",
        "schema": _name_schema(MODEL_NAME),
    },
    "version": {"description": "One of its versions.", "schema": _name_schema(VERSION_NAME)},
}


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
        "parameters": _TERMS,
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
    return _untyped_operation(operation_id, "Open Inference Protocol", "Inference", "Infer")


def _v1_operation(operation_id: str) -> Schema:
    return _untyped_operation(operation_id, "V1", "Prediction by rows or columns", "V1")


def _untyped_operation(operation_id: str, tag: str, summary: str, schema: str) -> Schema:
    """One for all models, of `{schema}Request` and `{schema}Response`."""
    names = ["model", "version"] if operation_id.endswith("-version") else ["model"]
    return {
        "tags": [tag],
        "summary": summary,
        "operationId": operation_id,
        "parameters": [
            *({"name": name, "in": "path", "required": True, **_NAMES[name]} for name in names),
            *_TERMS,
        ],
        "requestBody": {"required": True, "content": _json(_ref(f"{schema}Request"))},
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": _ANSWER_HEADERS,
                "content": _json(_ref(f"{schema}Response")),
            },
            **_error_responses(_INFER_ERROR),
        },
    }


def _request_header(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _answer_header(description: str, schema: Schema, *, required: bool = True) -> Schema:
    return {"description": description, "required": required, "schema": schema}


_TERMS = [
    _request_header(
        "X-Request-Timeout",
        "Seconds that the answer may take; the model's own limit holds where it is shorter.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    _request_header(
        "X-Request-Priority",
        "Who goes first while requests wait; `standard` unless told.",
        {"$ref": f"#/components/schemas/{_PRIORITY}"},
    ),
    _request_header(
        "X-Request-Id",
        "The request's id in the answer and in the log, in up to 128 printable characters of ASCII; for any other, or "
        "none, one is made.",
        {"type": "string"},
    ),
]
_ID_HEADER = {"X-Request-Id": _answer_header("The request's id, yours or made.", {"type": "string"})}
_ANSWER_HEADERS: Schema = {
    "X-Model-Version": _answer_header("NAME/VERSION that answered.", {"type": "string"}),
    "X-Model-Digest": _answer_header("SHA-256 of the version's manifest.", {"type": "string"}),
    "Server-Timing": _answer_header("Milliseconds in queue, compute and in all.", {"type": "string"}),
    **_ID_HEADER,
}
_CODE_HEADER = {
    "X-Error-Code": _answer_header(
        "A word for the kind of the error, which does not change.", {"type": "string"}, required=False
    )
}
_LATER_HEADERS: Schema = {
    "Retry-After": _answer_header(
        "Seconds to wait, where it is known.", {"type": "integer", "minimum": 1}, required=False
    ),
    "Retry-After-Ms": _answer_header(
        "The same in milliseconds.", {"type": "integer", "minimum": 0}, required=False
    ),
}


def _error_responses(schema: str) -> Schema:
    return {status: _error_response(status, schema) for status in _ERRORS}


def _error_response(status: str, schema: str) -> Schema:
    return {"description": _ERRORS[status], "headers": _headers_of(status), "content": _json(_ref(schema))}


def _headers_of(status: str) -> Schema:
    return {**_ID_HEADER, **_CODE_HEADER, **(_LATER_HEADERS if status == "503" else {})}


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


def _object(live: LiveVersion, kind: str, specs: tuple[TensorSpec, ...]) -> Schema:
    """Its title is what generators name their class by, so it says no more and no less than which version and what of it."""
    return {
        "type": "object",
        "title": f"{live.name} {live.version} {kind}",
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
            return _float_element(spec.numpy_dtype)
    info = np.iinfo(spec.numpy_dtype)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def _float_element(dtype: np.dtype[Any]) -> Schema:
    """A finite number is refused where it overflows: from half a step above the greatest value on it rounds to infinity."""
    if dtype == np.float64:
        return {"type": "number"}
    info = np.finfo(dtype)
    beyond = 2.0 ** int(info.maxexp) - 2.0 ** (int(info.maxexp) - int(info.nmant) - 2)
    return {"type": "number", "exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}


_PARAMETERS: Schema = {
    "type": "object",
    "properties": {
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Microseconds that the answer may take.",
        }
    },
}


def _shared_schemas() -> dict[str, Schema]:
    text = {"type": "string"}
    named = {"type": "object", "properties": {"name": text}, "required": ["name"]}
    tensor = {
        "type": "object",
        "properties": {
            "name": text,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string", "enum": [DATATYPES[name] for name in DTYPES]},
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
        _PRIORITY: {"type": "string", "enum": list(PRIORITIES)},
        _OPENAI_ERROR: _openai_error(),
        **_v1_schemas(),
        "InferTensor": tensor,
        "InferRequest": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "maxLength": MAX_ID},
                "inputs": tensors,
                "outputs": {"type": "array", "items": named},
                "parameters": _PARAMETERS,
            },
            "required": ["inputs"],
        },
        "InferResponse": {
            "type": "object",
            "properties": {"model_name": text, "model_version": text, "id": text, "outputs": tensors},
            "required": ["model_name", "outputs"],
        },
    }


def _v1_schemas() -> dict[str, Schema]:
    rows: Schema = {"type": "array", "items": {}, "minItems": 1, "description": "Rows."}
    columns: Schema = {"description": "The one input, or an object of all by name."}
    return {
        "V1Request": {
            "type": "object",
            "properties": {"instances": rows, "inputs": columns},
            "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        },
        "V1Response": {
            "type": "object",
            "properties": {"predictions": {"description": "In the form of the request."}},
            "required": ["predictions"],
        },
    }


def _openai_error() -> Schema:
    text = {"type": "string"}
    members = {"message": text, "type": text, "param": {"type": ["string", "null"]}, "code": text}
    error = {"type": "object", "properties": members, "required": list(members)}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
