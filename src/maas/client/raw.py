"""Large arrays as raw bytes: the binary tensors of the Open Inference Protocol. No I/O.

A float takes some 20 bytes in JSON, and both sides far longer than its four to write and to read. The protocol wants what JSON
does not: the declared dtype, and every dimension. So the model is asked once for its signature, and what cannot be said by it
without changing a value or the outcome (text, numbers that are not finite, a cast that may round to another integer, one
single sample among batches) goes as JSON, where the server decides as ever.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import orjson

from maas.client.replies import Reply
from maas.dtypes import is_float
from maas.errors import MaasError
from maas.tensors.check import check_finite, is_finite
from maas.types import Array, TensorSpec

PAYS_FROM = 16 << 10
"""Bytes of an array from which its raw form is faster: at 4 KB it begins to be, and here it soon makes up for asking for the
signature once (`docs/decisions/raw-client.md`)."""

_JSON_SIZE = "inference-header-content-length"
_FLOATS = {"float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64"}


@dataclass(frozen=True, slots=True)
class RawSignature:
    """A model's tensors, all of numbers or booleans, and whether NaN and infinities may go in and out."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    allow_non_finite: bool


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A body whose first `json_size` bytes are JSON; `is_single` where the batch dimension was inserted."""

    body: bytes
    json_size: int
    is_single: bool

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": "application/octet-stream", _JSON_SIZE: str(self.json_size)}


def may_pay(inputs: object) -> bool:
    """Whether one of `inputs` is an array large enough that its raw form is worth it."""
    values = inputs.values() if isinstance(inputs, Mapping) else ()
    return any(
        isinstance(value, np.ndarray) and _is_number(value) and value.nbytes >= PAYS_FROM for value in values
    )


def read_signature(reply: Reply) -> RawSignature | None:
    """The signature that the server describes; None where it has text, or is told in words that are not known here."""
    document = reply.document()
    try:
        inputs, outputs = (_specs(document[key]) for key in ("inputs", "outputs"))
    except (KeyError, TypeError, MaasError):
        return None
    if any(spec.dtype == "bytes" for spec in (*inputs, *outputs)):
        return None
    return RawSignature(inputs, outputs, document.get("allow_non_finite") is True)


def encode_raw(signature: RawSignature, inputs: Mapping[str, object]) -> RawRequest | None:
    """The request with all tensors raw, both ways; None where it has to go as JSON."""
    specs = [spec for spec in signature.inputs if spec.name in inputs]
    if len(specs) < len(inputs) or any(
        spec.default is None for spec in signature.inputs if spec not in specs
    ):
        return None
    arrays = [_declared(spec, inputs[spec.name]) for spec in specs]
    found = [array for array in arrays if array is not None]
    missing = {
        len(spec.dims) - array.ndim
        for spec, array in zip(specs, found, strict=False)
        if spec.batch_axis is not None
    }
    if len(found) < len(arrays) or len(missing) > 1 or not missing <= {0, 1}:
        return None
    is_single = missing == {1}
    return _request(specs, found, is_single)


def read_raw(signature: RawSignature, is_single: bool, reply: Reply) -> dict[str, Array]:
    """The outputs of a raw answer, in the dtypes that JSON tells. Raises the error that the reply stands for."""
    if reply.status != 200:
        reply.document()
    specs = {spec.name: spec for spec in signature.outputs}
    try:
        size = int(reply.headers[_JSON_SIZE])
        tensors = orjson.loads(reply.body[:size])["outputs"]
        outputs = {}
        for tensor in tensors:
            spec = specs[tensor["name"]]
            end = size + tensor["parameters"]["binary_data_size"]
            flat = np.frombuffer(memoryview(reply.body)[size:end], spec.numpy_dtype.newbyteorder("<"))
            outputs[spec.name] = _shown(spec, flat.reshape(tensor["shape"]), is_single)
            size = end
    except (KeyError, TypeError, ValueError) as error:
        raise reply.unreadable(error) from error
    if not signature.allow_non_finite:
        _check_finite(outputs, reply)
    return outputs


def _check_finite(outputs: Mapping[str, Array], reply: Reply) -> None:
    """The protocol gives such numbers of any model; by JSON the server says that one which may not give them has failed."""
    try:
        for name, array in outputs.items():
            check_finite(array, name)
    except MaasError as problem:
        problem.request_id = reply.request_id
        raise


def _specs(described: object) -> tuple[TensorSpec, ...]:
    if not isinstance(described, list):
        raise TypeError("no list of tensors")
    return tuple(
        TensorSpec(tensor["name"], tensor["dtype"], tuple(tensor["shape"]), tensor.get("default"))
        for tensor in described
    )


def _declared(spec: TensorSpec, value: object) -> Array | None:
    """`value` in the declared dtype, where that changes no value but by the rounding of floats."""
    if isinstance(value, str | bytes):
        return None
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    is_rounded = is_float(array.dtype) and is_float(spec.numpy_dtype)
    is_boolean = "b" in (array.dtype.kind, spec.numpy_dtype.kind)
    if not _is_number(array) or (is_boolean and array.dtype != spec.numpy_dtype):
        return None
    if not (is_rounded or np.can_cast(array.dtype, spec.numpy_dtype, "safe")):
        return None
    with np.errstate(over="ignore"):  # what overflows is not finite, and so for JSON
        array = array.astype(spec.numpy_dtype.newbyteorder("<"), copy=False)
    return array if is_finite(array) else None


def _is_number(array: Array) -> bool:
    return array.dtype.kind in "biu" or is_float(array.dtype)


def _request(specs: Sequence[TensorSpec], arrays: Sequence[Array], is_single: bool) -> RawRequest:
    tensors, parts = [], []
    for spec, array in zip(specs, arrays, strict=True):
        shape = list(array.shape)
        if is_single and spec.batch_axis is not None:
            shape.insert(spec.batch_axis, 1)
        data = array.tobytes()
        tensors.append(
            {
                "name": spec.name,
                "shape": shape,
                "datatype": _FLOATS.get(spec.dtype, spec.dtype.upper()),
                "parameters": {"binary_data_size": len(data)},
            }
        )
        parts.append(data)
    head = orjson.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}})
    return RawRequest(b"".join((head, *parts)), len(head), is_single)


def _shown(spec: TensorSpec, array: Array, is_single: bool) -> Array:
    """As an answer in JSON is read, so that nobody need know by which way it came."""
    if is_single and spec.batch_axis is not None:
        array = array.take(0, axis=spec.batch_axis)
    kind = "f" if is_float(array.dtype) else array.dtype.kind
    if kind == "u":
        is_small = not prod(array.shape) or array.max() < 1 << 63
        return array.astype(np.int64 if is_small else np.uint64)
    return np.asarray(array).astype({"f": np.float64, "i": np.int64, "b": np.bool_}[kind])
