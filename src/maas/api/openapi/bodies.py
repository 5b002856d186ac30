"""The bodies of inference that are the same for all models."""

from __future__ import annotations

from maas.api.codings import DEFLATE, GZIP
from maas.api.oip.datatypes import DATATYPES
from maas.api.oip.infer import MAX_ID
from maas.api.openapi.headers import ENCODING, PRIORITY
from maas.api.openapi.schema import COUNT, FLAG, NUMBER, TEXT, Schema, array, described, record, ref
from maas.api.terms import PRIORITIES
from maas.dtypes import DTYPES

_PARAMETER: Schema = {"type": ["string", "number", "boolean"]}


def inference_schemas() -> dict[str, Schema]:
    return {
        PRIORITY: {"type": "string", "enum": list(PRIORITIES)},
        ENCODING: {"type": "string", "enum": [DEFLATE, GZIP]},
        **_infer_schemas(),
        **_v1_schemas(),
    }


def parameters(members: dict[str, Schema]) -> Schema:
    """Those that are known; of others the protocol says what they may be, and nobody heeds them."""
    return {**record(members, optional=members), "patternProperties": {"": _PARAMETER}}


def _infer_schemas() -> dict[str, Schema]:
    size = described(COUNT, "Bytes of the tensor behind the JSON, in place of `data`.")
    tensor = {
        "name": TEXT,
        "shape": array(COUNT),
        "datatype": ref("Datatype"),
        "data": array(
            {}, description="Flat in row-major order, or nested; NaN and infinities as bare literals."
        ),
        "parameters": ref("TensorParameters"),
    }
    request = {
        "id": {**TEXT, "maxLength": MAX_ID},
        "inputs": array(ref("InferTensor")),
        "outputs": array(ref("RequestedOutput"), description="All, in the model's order, unless told."),
        "parameters": ref("InferParameters"),
    }
    answer = {"model_name": TEXT, "model_version": TEXT, "id": TEXT, "outputs": array(ref("InferTensor"))}
    raw = described(FLAG, "The output is raw behind the JSON of the answer.")
    return {
        "Datatype": {
            "type": "string",
            "enum": [DATATYPES[name] for name in DTYPES],
            "description": "BF16 is read where FP32 is taken, too.",
        },
        "TensorParameters": parameters({"binary_data_size": size}),
        "InferTensor": record(tensor, optional=("data", "parameters")),
        "OutputParameters": parameters({"binary_data": raw}),
        "RequestedOutput": record(
            {"name": TEXT, "parameters": ref("OutputParameters")}, optional=["parameters"]
        ),
        "InferParameters": parameters(_INFER_PARAMETERS),
        "InferRequest": record(request, optional=("id", "outputs", "parameters")),
        "InferResponse": record(answer, optional=["id"]),
    }


_INFER_PARAMETERS: dict[str, Schema] = {
    "timeout": described(
        {**NUMBER, "minimum": 0}, "Microseconds that the answer may take; 0 for no limit of its own."
    ),
    "priority": {
        "type": "integer",
        "minimum": 0,
        "maximum": len(PRIORITIES),
        "description": "0 default, 1 interactive, 2 standard, 3 bulk.",
    },
    "binary_data_output": described(FLAG, "All outputs are raw, but for those that say otherwise."),
}


def _v1_schemas() -> dict[str, Schema]:
    """Bytes may be `{"b64": "…"}` wherever they stand, both ways."""
    rows = array({}, minItems=1, description="A value for each row, or an object of all inputs by name.")
    columns: Schema = {"description": "The one input, or an object of all by name."}
    answer: dict[str, Schema] = {
        "predictions": {"description": "To `instances`: the one output, or an object of all for each row."},
        "outputs": {"description": "To `inputs`: the one output, or an object of all by name."},
    }
    return {
        "V1Instances": record({"instances": rows}),
        "V1Inputs": record({"inputs": columns}),
        "V1Request": {"oneOf": [ref("V1Instances"), ref("V1Inputs")]},
        "V1Response": {**record(answer, optional=answer), "minProperties": 1, "maxProperties": 1},
    }
