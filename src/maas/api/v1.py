"""Version 1 of the inference protocol: `POST /v1/models/{model}:predict`, as TensorFlow Serving and KServe have it.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol

`instances` are rows: a list with one value for each, or one object of values by name where there are several inputs.
`inputs` are columns: the whole tensor, or an object of them. `predictions` come back in the same form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from maas.api.body import dump, parse_object
from maas.api.operation import Call, Operation, Payload, Subject
from maas.batching.request import Answer
from maas.errors import InvalidRequest, MaasError
from maas.tensors.check import check_finite, wrong_names
from maas.tensors.nested import decode, encode, is_plain
from maas.types import Signature, clip


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
        spec.name: decode(columns[spec.name], spec, allow_non_finite=allow_non_finite, is_plain=plain)
        for spec in subject.signature.inputs
    }
    return Call(inputs, _ROWS if is_rows else _COLUMNS)


def render_v1(subject: Subject, form: V1Form, answer: Answer) -> Payload:
    """Raises `ModelFailed` where an output cannot be said in JSON."""
    outputs = {}
    for spec in subject.signature.outputs:
        array = answer.outputs[spec.name]
        if not answer.is_finite and not subject.allow_non_finite:
            check_finite(array, spec.name)
        outputs[spec.name] = encode(array, spec.name)
    predictions: Any = outputs
    if len(outputs) == 1:
        (predictions,) = outputs.values()
    elif form.is_rows:
        predictions = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return Payload(dump({"predictions": predictions}, is_finite=answer.is_finite))


def render_error(error: MaasError, _request_id: str) -> bytes:
    return orjson.dumps({"error": error.message})


V1_PREDICT = Operation("v1-predict", V1Form, parse_v1, render_v1, render_error)


def _columns_of(signature: Signature, instances: object) -> dict[str, Any]:
    """The rows' values, by input."""
    if any(spec.batch_axis != 0 for spec in (*signature.inputs, *signature.outputs)):
        raise InvalidRequest("the model's tensors are not rows along their first axis; send `inputs`")
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest("`instances` must be a list of at least one row")
    if not isinstance(instances[0], dict):
        _check_lone(signature, "instances")
        return {signature.inputs[0].name: instances}
    for index, row in enumerate(instances):
        if not isinstance(row, dict):
            raise InvalidRequest(f"instances[{index}] is no object; the rows before it are")
        if row.keys() != signature.names:
            raise InvalidRequest(f"instances[{index}]: {wrong_names(signature, row).message}")
    return {name: [row[name] for row in instances] for name in signature.names}


def _columns_by_name(signature: Signature, inputs: object) -> dict[str, Any]:
    if isinstance(inputs, dict):
        if inputs.keys() != signature.names:
            raise wrong_names(signature, inputs)
        return inputs
    _check_lone(signature, "inputs")
    return {signature.inputs[0].name: inputs}


def _check_lone(signature: Signature, key: str) -> None:
    if len(signature.inputs) != 1:
        names = clip(", ".join(spec.name for spec in signature.inputs), 200)
        raise InvalidRequest(f"`{key}` must name the model's inputs, which are {names}")
