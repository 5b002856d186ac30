"""The headers of requests and answers, and the names in paths."""

from __future__ import annotations

import re

from maas.api.openapi.schema import COUNT, NUMBER, TEXT, Schema, ref
from maas.types import MODEL_NAME, VERSION_NAME

PRIORITY = "Priority"
ENCODING = "ContentEncoding"


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

ID = _request_header(
    "X-Request-Id",
    "The request's id in the answer and in the log, in up to 128 printable characters of ASCII; for any other, or "
    "none, one is made.",
    TEXT,
)
TERMS = [
    _request_header(
        "X-Request-Timeout",
        "Seconds that the answer may take; the model's own limit holds where it is shorter.",
        {**NUMBER, "exclusiveMinimum": 0},
    ),
    _request_header(
        "X-Request-Priority",
        "Who goes first while requests wait; `standard` unless told.",
        ref(PRIORITY),
    ),
    ID,
    _request_header("Content-Encoding", "How the body is compressed, if it is.", ref(ENCODING)),
    _request_header(
        "Accept-Encoding",
        "How the answer may be compressed. One coding alone asks for it; of a list large JSON is compressed.",
        TEXT,
    ),
]
RAW_SIZE = "Inference-Header-Content-Length"
RAW_TERM = _request_header(
    RAW_SIZE,
    "Bytes of the JSON, uncompressed, behind which raw tensors stand: this, and not the content type, says that there are "
    "some. 0 where the body is the elements of the one input.",
    COUNT,
)
ID_HEADER = {"X-Request-Id": answer_header("The request's id, yours or made.", TEXT)}
VERSION_HEADERS: Schema = {
    "X-Model-Version": answer_header("NAME/VERSION that answered.", TEXT),
    "X-Model-Digest": answer_header("SHA-256 of the version's manifest.", TEXT),
    "Server-Timing": answer_header("Milliseconds in queue, compute and in all.", TEXT),
}
_CODING_HEADERS: Schema = {
    "Content-Encoding": answer_header("How the body is compressed, if it is.", ref(ENCODING), required=False),
    "Vary": answer_header("`accept-encoding` where the body is compressed.", TEXT, required=False),
}
ANSWER_HEADERS = {**VERSION_HEADERS, **ID_HEADER, **_CODING_HEADERS}
READABLE_HEADER: Schema = {
    "Accept-Encoding": answer_header(
        "How a body may be compressed, where it is compressed in another way.", TEXT, required=False
    )
}
RAW_HEADER: Schema = {
    RAW_SIZE: answer_header("Bytes of the JSON, where raw tensors stand behind it.", COUNT, required=False)
}


def declare_headers(document: Schema) -> None:
    """FastAPI knows of a name in a path only that it is text, and not of the request's id."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                parameter.update(NAMES.get(parameter["name"], {}))
            operation.setdefault("parameters", []).append(ID)
            operation["responses"]["200"].setdefault("headers", {}).update(ID_HEADER)
