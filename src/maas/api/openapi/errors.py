"""What answers that are errors look like: their statuses, headers and bodies."""

from __future__ import annotations

from maas.api.openapi.headers import ID_HEADER, answer_header
from maas.api.openapi.schema import Schema, json_content, ref

PREDICT_ERROR = "PredictError"
INFER_ERROR = "InferError"
OPENAI_ERROR = "OpenAIError"
NO_MODEL = "No such model or version."
BUG = "A fault of the server's own; its log has it under the request's id."
_ERRORS = {
    "400": "The request is not what the model declares; the message names the tensor.",
    "403": "The server takes no requests from other machines, or from web pages of another origin.",
    "404": NO_MODEL,
    "408": "The body came too slowly.",
    "413": "The body is over the model's limit.",
    "415": "The body is not JSON.",
    "422": "The same input has ended a model process a moment ago.",
    "500": "The model failed.",
    "503": "Refused for now: the queue is full, the model is not ready, or the server is shutting down.",
    "504": "No answer before the deadline.",
}
_CODE_HEADER = {
    "X-Error-Code": answer_header(
        "A word for the kind of the error, which does not change.", {"type": "string"}, required=False
    )
}
_LATER_HEADERS: Schema = {
    "Retry-After": answer_header(
        "Seconds to wait, where it is known.", {"type": "integer", "minimum": 1}, required=False
    ),
    "Retry-After-Ms": answer_header(
        "The same in milliseconds.", {"type": "integer", "minimum": 0}, required=False
    ),
}


def error_responses(schema: str) -> Schema:
    return {status: _error_response(status, schema) for status in _ERRORS}


def _error_response(status: str, schema: str) -> Schema:
    return {
        "description": _ERRORS[status],
        "headers": headers_of(status),
        "content": json_content(ref(schema)),
    }


def headers_of(status: str) -> Schema:
    return {**ID_HEADER, **_CODE_HEADER, **(_LATER_HEADERS if status == "503" else {})}


def correct_errors(document: Schema) -> None:
    """FastAPI announces its own 422, which no route of ours gives; those that name a model answer 404. It knows of the other
    errors, where it is told of them, no body; any may be a 500."""
    for path, operations in document["paths"].items():
        schema = error_schema_of(path)
        for operation in operations.values():
            responses = operation["responses"]
            if responses.pop("422", None):
                responses.setdefault("404", {"description": NO_MODEL})
            responses.setdefault("500", {"description": BUG})
            for status, response in responses.items():
                if status >= "400" and "content" not in response:
                    response.update(headers=headers_of(status), content=json_content(ref(schema)))
            operation["responses"] = dict(sorted(responses.items()))
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def error_schema_of(path: str) -> str:
    if f"{path}/".startswith("/v2/"):
        return INFER_ERROR
    return OPENAI_ERROR if path.startswith("/v1/") else PREDICT_ERROR


def error_schemas() -> dict[str, Schema]:
    text = {"type": "string"}
    return {
        PREDICT_ERROR: {
            "type": "object",
            "properties": {"error": text, "code": text, "request_id": text},
            "required": ["error", "code", "request_id"],
        },
        INFER_ERROR: {"type": "object", "properties": {"error": text}, "required": ["error"]},
        OPENAI_ERROR: _openai_error(),
    }


def _openai_error() -> Schema:
    text = {"type": "string"}
    members = {"message": text, "type": text, "param": {"type": ["string", "null"]}, "code": text}
    error = {"type": "object", "properties": members, "required": list(members)}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
