"""The operations of inference."""

from __future__ import annotations

from maas.api.openapi.errors import INFER_ERROR, PREDICT_ERROR, error_responses
from maas.api.openapi.headers import ANSWER_HEADERS, NAMES, TERMS
from maas.api.openapi.schema import Schema, json_content, ref
from maas.models.live import LiveVersion


def predict_operation(live: LiveVersion, operation_id: str) -> Schema:
    schema = schema_name(live)
    return {
        "tags": ["predict"],
        "summary": live.manifest.description or f"Predict with {live.label}",
        "description": "A value of the declared rank is a batch, one rank lower a single sample; the answer mirrors it.",
        "operationId": operation_id,
        "parameters": TERMS,
        "requestBody": {
            "required": True,
            "content": json_content(ref(f"{schema}.Request"), live.example.inputs),
        },
        "responses": {
            "200": {
                "description": "The outputs.",
                "headers": ANSWER_HEADERS,
                "content": json_content(ref(f"{schema}.Response"), live.example.outputs),
            },
            **error_responses(PREDICT_ERROR),
        },
    }


def infer_operation(operation_id: str) -> Schema:
    return _untyped_operation(operation_id, "Open Inference Protocol", "Inference", "Infer")


def v1_operation(operation_id: str) -> Schema:
    return _untyped_operation(operation_id, "V1", "Prediction by rows or columns", "V1")


def _untyped_operation(operation_id: str, tag: str, summary: str, schema: str) -> Schema:
    """One for all models, of `{schema}Request` and `{schema}Response`."""
    names = ["model", "version"] if operation_id.endswith("-version") else ["model"]
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
            **error_responses(INFER_ERROR),
        },
    }


def schema_name(live: LiveVersion) -> str:
    """Unique, with the few characters that OpenAPI allows: the one odd run of dots ends the model's name."""
    return f"{live.name.replace('.', '..')}.{live.version}"
