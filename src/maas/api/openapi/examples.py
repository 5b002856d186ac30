"""A version's example, which is a single sample, as a request of the dialects that name the model in the path."""

from __future__ import annotations

from typing import Any

import numpy as np

from maas.api.oip.datatypes import DATATYPES
from maas.api.openapi.schema import Schema, is_plain_json
from maas.models.live import LiveVersion
from maas.types import Array, TensorSpec


def infer_example(live: LiveVersion) -> Schema:
    return {"inputs": [_tensor(spec, value) for spec, value in _given(live)]}


def v1_example(live: LiveVersion) -> Schema:
    """By rows where the model has rows along the first axis of all that it takes and gives."""
    signature, given = live.signature, live.example.inputs
    if all(spec.batch_axis == 0 for spec in (*signature.inputs, *signature.outputs)):
        row = given if len(signature.inputs) > 1 else given[signature.inputs[0].name]
        return {"instances": [row]}
    return {"inputs": {spec.name: _batch(spec, value).tolist() for spec, value in _given(live)}}


def has_example(live: LiveVersion) -> bool:
    """Whether there is one that the document can hold: one with NaN is no JSON."""
    return bool(live.example.inputs) and is_plain_json(live.example.inputs)


def _given(live: LiveVersion) -> list[tuple[TensorSpec, Any]]:
    """The inputs of the example, which may leave out those that a request may."""
    given = live.example.inputs
    return [(spec, given[spec.name]) for spec in live.signature.inputs if spec.name in given]


def _tensor(spec: TensorSpec, value: Any) -> Schema:
    array = _batch(spec, value)
    return {
        "name": spec.name,
        "shape": list(array.shape),
        "datatype": DATATYPES[spec.dtype],
        "data": array.reshape(-1).tolist(),
    }


def _batch(spec: TensorSpec, value: Any) -> Array:
    """The sample as a batch of one, where the tensor carries `batch`; its elements stay what they are in JSON."""
    array = np.array(value, dtype=object)
    return array if spec.batch_axis is None else np.expand_dims(array, spec.batch_axis)
