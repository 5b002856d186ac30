"""How schemas are written."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **limits: Any) -> Schema:
    return {"type": "array", "items": items, **limits}


def record(members: dict[str, Schema], *, optional: Collection[str] = ()) -> Schema:
    """An object that has all members but those that are optional, and may have more some day."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, **({"required": required} if required else {})}


def described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def json_content(schema: Schema, example: object = None) -> Schema:
    media: Schema = {"schema": schema}
    if example and is_plain_json(example):
        media["example"] = example
    return {"application/json": media}


def is_plain_json(example: object) -> bool:
    """Whether the document can hold it: a model that allows NaN may have it in its golden samples."""
    try:
        json.dumps(example, allow_nan=False)
    except ValueError:
        return False
    return True
