"""What answers that are errors look like: their statuses, headers and bodies.

Each dialect has a body of its own, so that a response is described once for each dialect and status, and referred to.
"""

from __future__ import annotations

from maas.api.openapi.headers import ID_HEADER, READABLE_HEADER, VERSION_HEADERS, answer_header
from maas.api.openapi.schema import COUNT, TEXT, Schema, json_content, record, ref

_PREDICT_ERROR = "PredictError"
_INFER_ERROR = "InferError"
_V1_ERROR = "V1Error"
_OPENAI_ERROR = "OpenAIError"

_ERRORS = {
    "400": "The request is not what it must be; the message names what is wrong.",
    "403": "The server takes no such requests from other machines, or from web pages of another origin.",
    "404": "No such model or version.",
    "408": "The request came too slowly.",
    "413": "The body is over the limit.",
    "414": "The target is over the limit.",
    "415": "The body says that it is of a type, or an encoding, that is not read here.",
    "422": "The same input has ended a model process a moment ago.",
    "431": "The head, or the number of its headers, is over the limit.",
    "500": "The model failed, or the server has a fault of its own; its log has it under the request's id.",
    "503": "Not now: the server, or the model's queue, is full; the model is not ready; or the server is shutting down.",
    "504": "No answer before the deadline.",
}
_OF_INFERENCE = ("404", "415", "422", "504")
_CODE_HEADER = {
    "X-Error-Code": answer_header(
        "A word for the kind of the error, which does not change.", TEXT, required=False
    )
}
_VERSION_HEADERS = {name: {**header, "required": False} for name, header in VERSION_HEADERS.items()}
_LATER_HEADERS: Schema = {
    "Retry-After": answer_header(
        "Seconds to wait, where it is known.", {**COUNT, "minimum": 1}, required=False
    ),
    "Retry-After-Ms": answer_header("The same in milliseconds.", COUNT, required=False),
}
_HEADERS_BY_STATUS = {"415": READABLE_HEADER, "503": _LATER_HEADERS}


def error_responses(path: str, *, is_inference: bool = False) -> Schema:
    """What any operation at `path` may answer besides 200: most is said before it is known what the request is for."""
    schema = _error_schema_of(path)
    return {
        status: {"$ref": f"#/components/responses/{schema}.{status}"}
        for status in _ERRORS
        if is_inference or status not in _OF_INFERENCE or (status == "404" and "{model}" in path)
    }


def declare_errors(document: Schema) -> None:
    """FastAPI announces a 422, which no route of ours gives, and knows nothing of bodies of errors."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            operation["responses"] = {"200": responses["200"], **error_responses(path)}
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= _SCHEMAS
    document["components"]["responses"] = {
        f"{schema}.{status}": error_response(status, schema)
        for schema in (_PREDICT_ERROR, _INFER_ERROR, _V1_ERROR, _OPENAI_ERROR)
        for status in _ERRORS
        if schema != _OPENAI_ERROR or status not in ("415", "422", "504")
    }


def _error_schema_of(path: str) -> str:
    if f"{path}/".startswith("/v2/"):
        return _INFER_ERROR
    if f"{path}/".startswith("/v1/"):
        return _V1_ERROR if path.endswith(":predict") else _OPENAI_ERROR
    return _PREDICT_ERROR


def error_response(status: str, schema: str) -> Schema:
    return {
        "description": _ERRORS[status],
        "headers": {
            **ID_HEADER,
            **_CODE_HEADER,
            **_HEADERS_BY_STATUS.get(status, {}),
            **(_VERSION_HEADERS if schema in (_PREDICT_ERROR, _INFER_ERROR, _V1_ERROR) else {}),
        },
        "content": json_content(ref(schema)),
    }


_SCHEMAS: dict[str, Schema] = {
    _PREDICT_ERROR: record({"error": TEXT, "code": TEXT, "request_id": TEXT}),
    _INFER_ERROR: record({"error": TEXT}),
    _V1_ERROR: record({"error": TEXT}),
    _OPENAI_ERROR: record({"error": ref("OpenAIErrorDetails")}),
    "OpenAIErrorDetails": record(
        {"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": TEXT}
    ),
}
