"""Typed contents of a tensor, the other way beside raw bytes to send one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import prod

import numpy as np

from maas.api.grpc.messages import InferTensorContents
from maas.errors import InvalidRequest
from maas.tensors.nested import check_string_count
from maas.types import Array, TensorSpec

_FIELDS = {
    "bool": "bool_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "bytes": "bytes_contents",
}
_AT_ONCE = 16_384  # numbers read in one go: nothing else runs meanwhile


def read_contents(contents: InferTensorContents, spec: TensorSpec, shape: Sequence[int]) -> Array:
    """The tensor of `spec`'s dtype in the one field that holds such elements.

    Raises `InvalidRequest` where that does not hold just the elements of `shape`, or holds a number that the dtype does not.
    """
    name = _FIELDS.get(spec.dtype)
    if name is None:
        raise InvalidRequest(
            f"input {spec.name!r} is {spec.dtype}, which has no typed contents; send raw ones"
        )
    for field, _ in contents.ListFields():
        if field.name != name:
            raise InvalidRequest(f"input {spec.name!r} has {field.name}; {spec.dtype} is read from {name}")
    values = getattr(contents, name)
    if len(values) != prod(shape):
        raise InvalidRequest(
            f"input {spec.name!r} declares shape {list(shape)}, which is {prod(shape)} elements, but its {name} has {len(values)}"
        )
    return _read(contents, values, spec).reshape(shape)


def _read(contents: InferTensorContents, values: Sequence[int | float | bytes], spec: TensorSpec) -> Array:
    if spec.dtype == "bytes":
        check_string_count(spec, len(values))
        strings = np.empty(len(values), dtype=object)
        strings[:] = values
        return strings
    if spec.dtype in ("bool", "float32", "float64"):
        return _unpack(contents, len(values), spec)
    return _read_integers(values, spec)


def _unpack(contents: InferTensorContents, count: int, spec: TensorSpec) -> Array:
    """Elements of a fixed size lie packed at the end of the message, which is the quickest way to have them."""
    packed = contents.SerializePartialToString()
    dtype = spec.numpy_dtype.newbyteorder("<")
    offset = len(packed) - count * dtype.itemsize
    return np.frombuffer(packed, dtype, count, offset).astype(spec.numpy_dtype, copy=False)


def _read_integers(values: Sequence[int | float | bytes], spec: TensorSpec) -> Array:
    wide = np.dtype(np.uint64 if spec.numpy_dtype.kind == "u" else np.int64)
    numbers = np.empty(len(values), wide)
    rest = iter(values)
    for start in range(0, len(values), _AT_ONCE):
        count = min(_AT_ONCE, len(values) - start)
        numbers[start : start + count] = np.fromiter(islice(rest, count), wide, count)
    limits = np.iinfo(spec.numpy_dtype)
    if numbers.size and (numbers.min() < limits.min or numbers.max() > limits.max):
        raise InvalidRequest(
            f"input {spec.name!r} holds a number out of the range of {spec.dtype}, {limits.min} to {limits.max}"
        )
    return numbers.astype(spec.numpy_dtype, copy=False)
