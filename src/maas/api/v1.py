"""Version 1 of the inference protocol: `POST /v1/models/{model}:predict`, as TensorFlow Serving and KServe have it.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol

https://www.tensorflow.org/tfx/serving/api_rest

`instances` are rows: a list with one value for each, or one object of values by name where there are several inputs; rows come
back as `predictions`. `inputs` are columns: the whole tensor, or an object of them; columns come back as `outputs`. There is one
signature, so `signature_name` says nothing.

Bytes are a text, or `{"b64": "…"}`, base64, wherever they stand. In answers they are a text where they are UTF-8, unless the
output's name ends with `_bytes`: then they are always base64, so that their reader need not look.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from maas.api.body import dump, parse_object
from maas.api.operation import Call, Operation, Payload, Subject
from maas.batching.request import Answer
from maas.errors import InvalidRequest, MaasError
from maas.tensors.check import check_finite, given_inputs, lone_input
from maas.tensors.nested import decode, encode, is_plain
from maas.types import MAX_RANK, Array, Signature, TensorSpec, clip

_BASE64 = "b64"
_BINARY = "_bytes"  # ends the names of tensors that hold no text, for TF Serving and its clients


@dataclass(frozen=True, slots=True)
class V1Form:
    """Whether the request came as rows, so that its answer does too."""

    is_rows: bool


_ROWS, _COLUMNS = V1Form(True), V1Form(False)


def parse_v1(subject: Subject, payload: Payload) -> Call[V1Form]:
    """Raises `InvalidRequest` naming the input, what was expected and what came."""
    body = bytes(payload.data)
    allow_non_finite = subject.allow_non_finite
    request = parse_object(body, allow_non_finite=allow_non_finite)
    if ("instances" in request) == ("inputs" in request):
        raise InvalidRequest("the body must have `instances`, a list of rows, or `inputs`, and not both")
    is_rows = "instances" in request
    if is_rows:
        columns = _columns_of(subject.signature, request["instances"])
    else:
        columns = _columns_by_name(subject.signature, request["inputs"])
    plain = is_plain(body)
    inputs = {
        spec.name: decode(
            _with_bytes(columns[spec.name], spec, MAX_RANK),
            spec,
            allow_non_finite=allow_non_finite,
            is_plain=plain,
        )
        for spec in subject.signature.inputs
        if spec.name in columns
    }
    return Call(inputs, _ROWS if is_rows else _COLUMNS)


def render_v1(subject: Subject, form: V1Form, answer: Answer) -> Payload:
    """Raises `ModelFailed` where an output cannot be said in JSON."""
    outputs = {}
    for spec in subject.signature.outputs:
        array = answer.outputs[spec.name]
        if not answer.is_finite and not subject.allow_non_finite:
            check_finite(array, spec.name)
        outputs[spec.name] = _encode(array, spec.name)
    given: Any = outputs
    if len(outputs) == 1:
        (given,) = outputs.values()
    elif form.is_rows:
        given = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return Payload(dump({"predictions" if form.is_rows else "outputs": given}, is_finite=answer.is_finite))


def render_error(error: MaasError, _request_id: str) -> bytes:
    return orjson.dumps({"error": error.message})


V1_PREDICT = Operation("v1-predict", V1Form, parse_v1, render_v1, render_error)


def _columns_of(signature: Signature, instances: object) -> dict[str, Any]:
    """The rows' values, by input."""
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest("`instances` must be a list of at least one row")
    if isinstance(instances[0], dict) and not _is_base64(instances[0], signature):
        columns = _columns_of_rows(signature, instances)
    else:
        columns = {_lone(signature, "instances"): instances}
    given = [spec for spec in signature.inputs if spec.name in columns]
    if any(spec.batch_axis != 0 for spec in (*given, *signature.outputs)):
        raise InvalidRequest("the model's tensors are not rows along their first axis; send `inputs`")
    return columns


def _columns_of_rows(signature: Signature, instances: list[Any]) -> dict[str, Any]:
    names = instances[0].keys()
    for index, row in enumerate(instances):
        if not isinstance(row, dict):
            raise InvalidRequest(f"instances[{index}] is no object; the rows before it are")
        try:
            given_inputs(signature, row)
        except InvalidRequest as error:
            raise InvalidRequest(f"instances[{index}]: {error.message}") from None
        if row.keys() != names:
            raise InvalidRequest(
                f"instances[{index}] has other inputs than instances[0]; rows must have the same"
            )
    return {name: [row[name] for row in instances] for name in names}


def _columns_by_name(signature: Signature, inputs: object) -> dict[str, Any]:
    if isinstance(inputs, dict) and not _is_base64(inputs, signature):
        given_inputs(signature, inputs)
        return inputs
    return {_lone(signature, "inputs"): inputs}


def _lone(signature: Signature, key: str) -> str:
    """The input that is meant without a name."""
    spec = lone_input(signature)
    if spec is None:
        names = clip(", ".join(spec.name for spec in signature.inputs), 200)
        raise InvalidRequest(f"`{key}` must name the model's inputs, which are {names}")
    return spec.name


def _is_base64(value: dict[str, Any], signature: Signature) -> bool:
    """Whether an object is a value and not values by name."""
    return value.keys() == {_BASE64} != signature.names


def _with_bytes(value: Any, spec: TensorSpec, levels: int) -> Any:
    """`value` with the bytes that stand there as base64, where the input takes bytes; what is none of that is for the decoder."""
    if spec.dtype != "bytes":
        return value
    if isinstance(value, list) and levels:
        return [_with_bytes(part, spec, levels - 1) for part in value]
    if isinstance(value, dict) and value.keys() == {_BASE64}:
        return _from_base64(value[_BASE64], spec)
    return value


def _from_base64(text: object, spec: TensorSpec) -> bytes:
    """As TF Serving reads it: white space is no part of it, and the padding may be missing."""
    try:
        if isinstance(text, str):
            packed = "".join(text.split())
            return b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError:
        pass
    raise InvalidRequest(
        f"input {spec.name!r} holds a `{_BASE64}` that is no base64: {clip(str(text), 40)!r}"
    )


def _encode(array: Array, name: str) -> Any:
    if array.dtype.kind != "O":
        return encode(array, name)
    return _encode_bytes(array.tolist(), is_binary=name.endswith(_BINARY))


def _encode_bytes(value: Any, *, is_binary: bool) -> Any:
    if isinstance(value, list):
        return [_encode_bytes(part, is_binary=is_binary) for part in value]
    if not is_binary:
        with suppress(UnicodeDecodeError):
            return value.decode()
    return {_BASE64: b64encode(value).decode()}
