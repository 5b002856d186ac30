"""The bodies of inference that are the same for all models."""

from __future__ import annotations

from maas.api.oip.datatypes import DATATYPES
from maas.api.oip.infer import MAX_ID
from maas.api.openapi.headers import PRIORITY
from maas.api.openapi.schema import Schema, ref
from maas.api.terms import PRIORITIES
from maas.types import DTYPES

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


def inference_schemas() -> dict[str, Schema]:
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
    tensors = {"type": "array", "items": ref("InferTensor")}
    return {
        PRIORITY: {"type": "string", "enum": list(PRIORITIES)},
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
