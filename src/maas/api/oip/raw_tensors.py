"""Tensors as the raw bytes behind a JSON body: the binary tensor data extension of the Open Inference Protocol.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

Elements lie in C order, the lowest byte first; one of `bytes` has its length before it, in four bytes.
"""

from __future__ import annotations

import struct
from math import prod

import numpy as np

from maas.errors import InvalidRequest
from maas.tensors.nested import check_string_count
from maas.types import BATCH, Array, TensorSpec

_LENGTH = struct.Struct("<I")
_BF16 = np.dtype("<u2")  # its bits


def read_raw(data: memoryview, spec: TensorSpec, shape: list[int], *, is_bf16: bool = False) -> Array:
    """The tensor of `spec`'s dtype that fills `data`: a view of it, unless its elements are bytes. With `is_bf16` a float32 is
    made of bfloat16.

    Raises `InvalidRequest` where `data` does not hold just the elements of `shape`.
    """
    if spec.dtype == "bytes":
        return _read_strings(data, spec, shape)
    is_widened = is_bf16 and spec.dtype == "float32"
    dtype = _BF16 if is_widened else spec.numpy_dtype.newbyteorder("<")
    expected = prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InvalidRequest(
            f"input {spec.name!r} has {len(data)} bytes; shape {shape} of {'BF16' if is_widened else spec.dtype} is {expected}"
        )
    array = np.frombuffer(data, dtype).reshape(shape)
    if is_widened:
        return _widen(array)
    if spec.dtype == "bool":
        _check_booleans(array, spec)
    return array.astype(spec.numpy_dtype, copy=False)


def read_lone(data: memoryview, spec: TensorSpec) -> Array:
    """The tensor that is a whole body, without a word on its shape: a single string, or as many elements as there are.

    One variable dimension is found by the number of bytes; where there are more, the batch has one row.
    Raises `InvalidRequest` where the shape cannot be told.
    """
    if spec.dtype == "bytes":
        text = np.empty(1, dtype=object)
        text[0] = bytes(data)
        return text.reshape(_lone_shape(spec, 1))
    return read_raw(data, spec, _lone_shape(spec, len(data) // spec.numpy_dtype.itemsize))


def _lone_shape(spec: TensorSpec, count: int) -> list[int]:
    variable = sum(not isinstance(dim, int) for dim in spec.dims)
    if variable > 1 and spec.batch_axis is not None:
        shape = [1 if dim == BATCH else dim for dim in spec.dims]
        variable -= 1
    else:
        shape = list(spec.dims)
    fixed = prod(dim for dim in shape if isinstance(dim, int))
    if variable > 1 or not fixed or not count or (count % fixed if variable else count != fixed):
        raise InvalidRequest(
            f"the shape of input {spec.name!r}, {spec.declaration}, does not follow from {count} elements; send it as JSON"
        )
    return [dim if isinstance(dim, int) else count // fixed for dim in shape]


def _widen(array: Array) -> Array:
    """BF16 as float32, whose upper half it is."""
    return (array.astype(np.uint32) << 16).view(np.float32)


def write_raw(array: Array) -> bytes:
    """`array` as `read_raw` reads it."""
    if array.dtype.hasobject:
        return b"".join(_LENGTH.pack(len(element)) + element for element in array.flat)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _check_booleans(array: Array, spec: TensorSpec) -> None:
    """A byte that is neither 0 nor 1 would be true to one engine and another number to the next."""
    if array.size and array.view(np.uint8).max() > 1:
        raise InvalidRequest(f"input {spec.name!r} is BOOL and holds a byte that is neither 0 nor 1")


def _read_strings(data: memoryview, spec: TensorSpec, shape: list[int]) -> Array:
    count = prod(shape)
    check_string_count(spec, count)
    array = np.empty(count, dtype=object)
    start = 0
    for index in range(count):
        end = start + _LENGTH.size
        if end <= len(data):
            start, end = end, end + _LENGTH.unpack_from(data, start)[0]
        if end > len(data):
            raise InvalidRequest(f"input {spec.name!r} ends within its element {index} of {count}")
        array[index] = bytes(data[start:end])
        start = end
    if start != len(data):
        raise InvalidRequest(f"input {spec.name!r} has {len(data) - start} bytes behind its {count} elements")
    return array.reshape(shape)
