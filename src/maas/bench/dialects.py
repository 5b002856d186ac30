"""Requests in the words of a protocol: our own JSON, the Open Inference Protocol's, and that with binary tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md and its binary tensor
data extension: the tensors' bytes, little-endian and row by row, stand behind the JSON, whose length a header gives.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import orjson

from maas.bench.inputs import Field, Form
from maas.client.wire import encode, encode_inputs
from maas.dtypes import DTYPES
from maas.types import Array, Tensors


class Protocol(StrEnum):
    NATIVE = "native"
    OIP = "oip"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Body:
    """What is posted, and the headers that say what it is."""

    content: bytes
    headers: Mapping[str, str]


_JSON = {"Content-Type": "application/json"}


def encode_body(protocol: Protocol, form: Form, tensors: Tensors) -> Body:
    match protocol:
        case Protocol.NATIVE:
            return Body(encode_inputs(_single_if_one(form, tensors)), _JSON)
        case Protocol.OIP:
            inputs = [
                {**_head(each, tensors[each.name]), "data": _flat(tensors[each.name])} for each in form.fields
            ]
            return Body(encode({"inputs": inputs}), _JSON)
        case Protocol.BINARY:
            return _binary(form, tensors)


def datatype(dtype: str) -> str:
    """The Open Inference Protocol's word: `FP32` for `float32`."""
    return dtype.upper().replace("BFLOAT", "BF").replace("FLOAT", "FP")


def dtype_of(word: str) -> str | None:
    """The dtype of that word, or None for one that is not known here."""
    return next((dtype for dtype in DTYPES if datatype(dtype) == word), None)


def _single_if_one(form: Form, tensors: Tensors) -> Tensors:
    """One row goes as a single sample, without the batch dimension."""
    axes = {each.name: each.batch_axis for each in form.fields}
    if not all(axis is None or tensors[name].shape[axis] == 1 for name, axis in axes.items()):
        return tensors
    return {
        name: array if (axis := axes[name]) is None else np.squeeze(array, axis)
        for name, array in tensors.items()
    }


def _head(each: Field, array: Array) -> dict[str, object]:
    return {"name": each.name, "shape": list(array.shape), "datatype": datatype(each.dtype)}


def _flat(array: Array) -> Array | list[object]:
    return array.reshape(-1).tolist() if array.dtype == object else np.ascontiguousarray(array).reshape(-1)


def _binary(form: Form, tensors: Tensors) -> Body:
    parts = [_raw(tensors[each.name]) for each in form.fields]
    inputs = [
        {**_head(each, tensors[each.name]), "parameters": {"binary_data_size": len(part)}}
        for each, part in zip(form.fields, parts, strict=True)
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Body(b"".join((head, *parts)), headers)


def _raw(array: Array) -> bytes:
    """Elements that are text have their length before them, in four bytes."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(element)) + element for element in array.flat)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
