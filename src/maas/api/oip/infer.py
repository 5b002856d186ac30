"""Inference: a request's body to arrays, and an answer to a body."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import orjson

from maas.api.body import dump, parse_object
from maas.api.oip.datatypes import BF16, DATATYPES, is_read_as
from maas.api.oip.outputs import choose_outputs, choose_raw, entries_of, outputs_of
from maas.api.oip.parameters import parameters_of, priority_of, timeout_of
from maas.api.oip.raw_tensors import read_lone, read_raw, write_raw
from maas.api.operation import Call, Operation, Payload, Subject
from maas.batching.request import Answer
from maas.errors import InvalidRequest, MaasError, ModelFailed
from maas.tensors.check import given_inputs, lone_input
from maas.tensors.nested import decode, encode, is_plain
from maas.types import MAX_RANK, Array, TensorSpec, clip

_MAX_LENGTH = (1 << 63) - 1  # of a dimension: the protocol has them as int64
_EXACT = 1 << 53  # below which no two whole numbers are the same float of 64 bits
MAX_ID = 4096  # characters

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InferForm:
    """The outputs to give, in this order, those of them that are given as raw bytes, and the request's `id`."""

    outputs: tuple[str, ...]
    raw: tuple[str, ...]
    id: str | None


def parse_infer(subject: Subject, payload: Payload) -> Call[InferForm]:
    """Raises `InvalidRequest` naming the tensor, what was expected and what came."""
    if payload.json_size == 0:
        return _parse_lone(subject, memoryview(payload.data))
    body, behind = _cut(payload)
    request = parse_object(body, allow_non_finite=True)
    entries = entries_of(request.get("inputs"), "inputs")
    raw = _cut_raw(entries, behind)
    given = by_name(entries)
    plain = is_plain(body)
    inputs = {
        spec.name: _parse_input(spec, given[spec.name], raw.get(spec.name), plain)
        for spec in given_inputs(subject.signature, given)
    }
    parameters = parameters_of(request, "")
    wanted = request.get("outputs")
    outputs = choose_outputs(subject.signature, outputs_of(wanted))
    form = InferForm(outputs, choose_raw(outputs, wanted, parameters), _parse_id(request))
    return Call(inputs, form, timeout_of(parameters), priority_of(parameters))


def _parse_lone(subject: Subject, data: memoryview) -> Call[InferForm]:
    """A request without JSON is the elements of the one input; its answer is raw too."""
    spec = lone_input(subject.signature)
    if spec is None:
        count = len(subject.signature.inputs)
        raise InvalidRequest(f"the body has no JSON, and the model has {count} inputs; it takes JSON")
    outputs = choose_outputs(subject.signature, [])
    array = not_empty(read_lone(data, spec), spec)
    return Call({spec.name: array}, InferForm(outputs, outputs, None))


def render_infer(subject: Subject, form: InferForm, answer: Answer) -> Payload:
    """Raises `InvalidRequest` where an output holds bytes that are no text and is asked for as JSON."""
    response: dict[str, Any] = {"model_name": subject.name, "model_version": subject.version}
    if form.id is not None:
        response["id"] = form.id
    specs = {spec.name: spec for spec in subject.signature.outputs}
    raw = {name: write_raw(answer.outputs[name]) for name in form.raw}
    response["outputs"] = [
        _render_output(specs[name], answer.outputs[name], raw.get(name)) for name in form.outputs
    ]
    text = dump(response, is_finite=answer.is_finite)
    return Payload(b"".join((text, *raw.values())), len(text)) if raw else Payload(text)


def render_error(error: MaasError, _request_id: str) -> bytes:
    return orjson.dumps({"error": error.message})


INFER = Operation(
    "infer",
    InferForm,
    parse_infer,
    render_infer,
    render_error,
    takes_raw=True,
    gives_raw=lambda form: len(form.raw) == len(form.outputs),
)


def by_name(entries: Sequence[tuple[str, T]]) -> dict[str, T]:
    """A request's inputs. Raises `InvalidRequest` where one is given twice."""
    named = dict(entries)
    if len(named) < len(entries):
        twice, _ = Counter(name for name, _ in entries).most_common(1)[0]
        raise InvalidRequest(f"input {clip(twice)!r} is given twice")
    return named


def _cut(payload: Payload) -> tuple[bytes, memoryview]:
    """The JSON and what is behind it."""
    if payload.json_size is None:
        return bytes(payload.data), memoryview(b"")
    whole = memoryview(payload.data)
    if payload.json_size > len(whole):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {payload.json_size}; the body has {len(whole)} bytes"
        )
    return bytes(whole[: payload.json_size]), whole[payload.json_size :]


def _cut_raw(entries: list[tuple[str, dict[str, Any]]], behind: memoryview) -> dict[str, memoryview]:
    """The raw bytes by input, which lie behind the JSON in the order in which it names them."""
    raw = {}
    start = 0
    for name, tensor in entries:
        size = parameters_of(tensor, f" of input {clip(name)!r}").get("binary_data_size")
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(behind) - start:
            raise InvalidRequest(
                f"input {clip(name)!r} has binary_data_size {clip(str(size))}; {len(behind) - start} bytes are left for it"
            )
        raw[name] = behind[start : start + size]
        start += size
    if start != len(behind):
        raise InvalidRequest(f"the body has {len(behind) - start} bytes behind its last tensor")
    return raw


def _parse_input(
    spec: TensorSpec, tensor: Mapping[str, Any], raw: memoryview | None, is_plain: bool
) -> Array:
    datatype = tensor.get("datatype")
    if not is_read_as(datatype, spec.dtype):
        raise InvalidRequest(
            f"input {spec.name!r} has datatype {clip(str(datatype))!r}; expected {DATATYPES[spec.dtype]}"
        )
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(
        type(length) is int and 0 <= length <= _MAX_LENGTH for length in shape
    ):
        raise InvalidRequest(f"input {spec.name!r} needs a `shape`, a list of lengths of at least 0")
    if len(shape) != len(spec.dims):
        raise InvalidRequest(
            f"input {spec.name!r} declares shape {clip(str(shape))} of {len(shape)} dimensions; expected "
            f"{len(spec.dims)}: {spec.declaration}"
        )
    if raw is not None:
        if "data" in tensor:
            raise InvalidRequest(
                f"input {spec.name!r} has `data` and binary_data_size; it may have one of them"
            )
        return not_empty(read_raw(raw, spec, shape, is_bf16=datatype == BF16), spec)
    if "data" not in tensor:
        raise InvalidRequest(f"input {spec.name!r} needs `data`, a list of {DATATYPES[spec.dtype]} elements")
    array = _decode(spec, tensor["data"], is_plain)
    is_flat = array.ndim <= 1
    if array.size != prod(shape) or not (is_flat or list(array.shape) == shape):
        raise InvalidRequest(
            f"input {spec.name!r} declares shape {clip(str(shape))}, which is {prod(shape)} elements, but its data has "
            f"{array.size}" + ("" if is_flat else f" in shape {list(array.shape)}")
        )
    return not_empty(array, spec).reshape(shape)


def _decode(spec: TensorSpec, data: object, is_plain: bool) -> Array:
    """Integers may be written as floats here, 7 as 7.0: a client that exists has no other way."""
    try:
        return decode(data, spec, allow_non_finite=True, is_plain=is_plain)
    except InvalidRequest:
        if spec.numpy_dtype.kind not in "iu":
            raise
        return decode(_whole_numbers(data, MAX_RANK), spec)


def _whole_numbers(data: object, levels: int) -> object:
    """`data` with floats as the integers that they are, if they are, and are so small that no two are the same float."""
    if isinstance(data, list) and levels:
        return [_whole_numbers(value, levels - 1) for value in data]
    if isinstance(data, float) and abs(data) < _EXACT and data.is_integer():
        return int(data)
    return data


def not_empty(array: Array, spec: TensorSpec) -> Array:
    """Raises `InvalidRequest` for a tensor without elements."""
    if not array.size:
        raise InvalidRequest(
            f"input {spec.name!r} is empty; expected {spec.declaration} with at least one element"
        )
    return array


def _parse_id(request: Mapping[str, Any]) -> str | None:
    identifier = request.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidRequest("`id` must be a string")
    return identifier if identifier is None else check_id(identifier)


def check_id(identifier: str) -> str:
    """Raises `InvalidRequest` where it is too long to be echoed."""
    if len(identifier) > MAX_ID:
        raise InvalidRequest(f"`id` has {len(identifier)} characters; at most {MAX_ID} are echoed")
    return identifier


def _render_output(spec: TensorSpec, array: Array, raw: bytes | None) -> dict[str, Any]:
    tensor = {"name": spec.name, "shape": list(array.shape), "datatype": DATATYPES[spec.dtype]}
    if raw is not None:
        return {**tensor, "parameters": {"binary_data_size": len(raw)}}
    try:
        return {**tensor, "data": encode(array.reshape(-1), spec.name)}
    except ModelFailed as error:  # which holds in JSON alone
        raise InvalidRequest(f"{error.message}; ask for binary_data") from error
