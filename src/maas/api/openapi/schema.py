"""How schemas are written."""

from __future__ import annotations

import json
from typing import Any

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def json_content(schema: Schema, example: object = None) -> Schema:
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
