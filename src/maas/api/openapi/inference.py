"""The operations of inference: one for each version, and those of the dialects that name the model in the path."""

from __future__ import annotations

from collections.abc import Iterable

from maas.api.openapi.errors import error_responses
from maas.api.openapi.examples import has_example, infer_example, v1_example
from maas.api.openapi.headers import ANSWER_HEADERS, NAMES, RAW_HEADER, RAW_TERM, TERMS
from maas.api.openapi.names import Names
from maas.api.openapi.schema import Schema, json_content, ref
from maas.api.terms import OCTETS
from maas.models.live import LiveVersion

_INFER_PATH = "/v2/models/{{model}}{}/infer"
_V1_PATH = "/v1/models/{{model}}{}:predict"
_SAMPLES = "A value of the declared rank is a batch, one rank lower a single sample; the answer mirrors it."
_NON_FINITE = " NaN, Infinity and -Infinity are taken and given as bare literals, of which JSON, and so this document, knows nothing."
_RAW: Schema = {OCTETS: {"schema": {"type": "string", "format": "binary"}}}


def predict_operations(live: LiveVersion, names: Names, *, is_default: bool) -> Schema:
    """The version's own path, and before it that of the model where this is the version that answers there."""
    default = {"post": _predict_operation(live, names, names.default_operation)}
    return {
        **({f"/predict/{live.name}": default} if is_default else {}),
        f"/predict/{live.name}/versions/{live.version}": {
            "post": _predict_operation(live, names, names.operation)
        },
    }


def dialect_operations() -> Schema:
    """Of all models, by path."""
    paths: Schema = {}
    for suffix in ("", "/versions/{version}"):
        name = "-version" if suffix else ""
        path = _INFER_PATH.format(suffix)
        paths[path] = {"post": _infer_operation(path, f"infer{name}")}
        path = _V1_PATH.format(suffix)
        paths[path] = {"post": _v1_operation(path, f"v1-predict{name}")}
    return paths


def add_examples(paths: Schema, versions: Iterable[LiveVersion]) -> None:
    """For each of `versions`, which answer where none is named, a request of each dialect under the name of the model."""
    for live in filter(has_example, versions):
        for path, example in ((_INFER_PATH, infer_example(live)), (_V1_PATH, v1_example(live))):
            media = paths[path.format("")]["post"]["requestBody"]["content"]["application/json"]
            media.setdefault("examples", {})[live.name] = {"value": example}


def _predict_operation(live: LiveVersion, names: Names, operation_id: str) -> Schema:
    return {
        "tags": ["predict"],
        "summary": live.manifest.description or f"Predict with {live.label}",
        "description": _SAMPLES + (_NON_FINITE if live.allow_non_finite else ""),
        "operationId": operation_id,
        "parameters": TERMS,
        "requestBody": {
            "required": True,
            "content": json_content(ref(f"{names.schema}.Request"), live.example.inputs),
        },
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": ANSWER_HEADERS,
                "content": json_content(ref(f"{names.schema}.Response"), live.example.outputs),
            },
            **error_responses("/predict/{model}", is_inference=True),
        },
    }


def _infer_operation(path: str, operation_id: str) -> Schema:
    """The body is what `Inference-Header-Content-Length` says, under any content type; raw tensors have one of their own."""
    operation = _dialect_operation(path, operation_id, "Open Inference Protocol", "Inference", "Infer")
    operation["description"] = (
        "Tensors are in the JSON, or raw behind it: then `Inference-Header-Content-Length` says where the JSON ends, and the "
        "`binary_data_size` of each such tensor how long it is. Answers have raw tensors where `binary_data_output`, or an "
        "output's `binary_data`, asks for them."
    )
    operation["parameters"].append(RAW_TERM)
    operation["requestBody"]["content"] |= _RAW
    answer = operation["responses"]["200"]
    # The schema is that of the JSON in front: with another one an SDK would have to ask of every answer which it is.
    answer["content"][OCTETS] = {"schema": ref("InferResponse")}
    answer["description"] = (
        "The outputs. As octets, the JSON is what the schema says, and raw tensors stand behind it."
    )
    answer["headers"] = {**ANSWER_HEADERS, **RAW_HEADER}
    return operation


def _v1_operation(path: str, operation_id: str) -> Schema:
    return _dialect_operation(path, operation_id, "V1", "Prediction by rows or columns", "V1")


def _dialect_operation(path: str, operation_id: str, tag: str, summary: str, schema: str) -> Schema:
    """Of `{schema}Request` and `{schema}Response`."""
    names = ["model", "version"] if "{version}" in path else ["model"]
    return {
        "tags": [tag],
        "summary": summary,
        "operationId": operation_id,
        "parameters": [
            *({"name": name, "in": "path", "required": True, **NAMES[name]} for name in names),
            *TERMS,
        ],
        "requestBody": {"required": True, "content": json_content(ref(f"{schema}Request"))},
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": ANSWER_HEADERS,
                "content": json_content(ref(f"{schema}Response")),
            },
            **error_responses(path, is_inference=True),
        },
    }
