"""The headers of requests and answers, and the names in paths."""

from __future__ import annotations

import re

from maas.api.openapi.schema import Schema, ref
from maas.types import MODEL_NAME, VERSION_NAME

PRIORITY = "Priority"


def _request_header(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def answer_header(description: str, schema: Schema, *, required: bool = True) -> Schema:
    return {"description": description, "required": required, "schema": schema}


def _name_schema(pattern: re.Pattern[str]) -> Schema:
    return {"type": "string", "pattern": f"^{pattern.pattern}$"}


NAMES: dict[str, Schema] = {
    "model": {
        "description": "A model's name; upper and lower case differ.",
        "schema": _name_schema(MODEL_NAME),
    },
    "version": {"description": "One of its versions.", "schema": _name_schema(VERSION_NAME)},
}


TERMS = [
    _request_header(
        "X-Request-Timeout",
        "Seconds that the answer may take; the model's own limit holds where it is shorter.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    _request_header(
        "X-Request-Priority",
        "Who goes first while requests wait; `standard` unless told.",
        ref(PRIORITY),
    ),
    _request_header(
        "X-Request-Id",
        "The request's id in the answer and in the log, in up to 128 printable characters of ASCII; for any other, or "
        "none, one is made.",
        {"type": "string"},
    ),
]
ID_HEADER = {"X-Request-Id": answer_header("The request's id, yours or made.", {"type": "string"})}
ANSWER_HEADERS: Schema = {
    "X-Model-Version": answer_header("NAME/VERSION that answered.", {"type": "string"}),
    "X-Model-Digest": answer_header("SHA-256 of the version's manifest.", {"type": "string"}),
    "Server-Timing": answer_header("Milliseconds in queue, compute and in all.", {"type": "string"}),
    **ID_HEADER,
}


def declare_names(document: Schema) -> None:
    """FastAPI knows of a name in a path only that it is text."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                parameter.update(NAMES.get(parameter["name"], {}))
