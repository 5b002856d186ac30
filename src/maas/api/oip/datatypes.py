"""The protocol's names of our dtypes."""

from __future__ import annotations

from collections.abc import Mapping

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "bytes": "BYTES",
}

BF16 = DATATYPES["bfloat16"]
"""Read where a model takes float32 as well, which holds all of its numbers."""


def is_read_as(datatype: object, dtype: str) -> bool:
    """Whether an input of `dtype` takes elements of `datatype`."""
    return datatype == DATATYPES[dtype] or (datatype == BF16 and dtype == "float32")
