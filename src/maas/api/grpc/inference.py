"""`ModelInfer`: from a message to tensors, and from an answer to a message. Answers are raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maas.api.grpc.contents import read_contents
from maas.api.grpc.messages import InferParameter, ModelInferRequest, ModelInferResponse
from maas.api.oip.datatypes import DATATYPES
from maas.api.oip.infer import MAX_ID
from maas.api.oip.raw_tensors import read_raw, write_raw
from maas.api.operation import Call, Subject
from maas.api.terms import check_timeout
from maas.batching.priority import Priority
from maas.batching.request import Answer
from maas.errors import InvalidRequest
from maas.tensors.check import wrong_names
from maas.types import Array, Signature, TensorSpec, clip

_PRIORITIES = (Priority.STANDARD, Priority.INTERACTIVE, Priority.STANDARD, Priority.BULK)


@dataclass(frozen=True, slots=True)
class InferForm:
    """The outputs to give, in this order, the request's `id`, and the priority that it asks for, if it does."""

    outputs: tuple[str, ...]
    id: str
    priority: Priority | None


def parse_infer(subject: Subject, request: ModelInferRequest) -> Call[InferForm]:
    """Raises `InvalidRequest` naming the tensor, what was expected and what came."""
    given = _by_name(request.inputs)
    if given.keys() != subject.signature.names:
        raise wrong_names(subject.signature, given)
    raw = _raw_by_name(request)
    inputs = {
        spec.name: _parse_input(spec, given[spec.name], raw.get(spec.name))
        for spec in subject.signature.inputs
    }
    parameters = {name: _value(parameter) for name, parameter in request.parameters.items()}
    if len(request.id) > MAX_ID:
        raise InvalidRequest(f"`id` has {len(request.id)} characters; at most {MAX_ID} are echoed")
    outputs = _choose_outputs(subject.signature, [output.name for output in request.outputs])
    form = InferForm(outputs, request.id, _parse_priority(parameters))
    return Call(inputs, form, _parse_timeout(parameters))


def render_infer(subject: Subject, form: InferForm, answer: Answer) -> ModelInferResponse:
    specs = {spec.name: spec for spec in subject.signature.outputs}
    return ModelInferResponse(
        model_name=subject.name,
        model_version=subject.version,
        id=form.id,
        outputs=[
            ModelInferResponse.InferOutputTensor(
                name=name, datatype=DATATYPES[specs[name].dtype], shape=answer.outputs[name].shape
            )
            for name in form.outputs
        ],
        raw_output_contents=[write_raw(answer.outputs[name]) for name in form.outputs],
    )


def _by_name(
    tensors: Sequence[ModelInferRequest.InferInputTensor],
) -> dict[str, ModelInferRequest.InferInputTensor]:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) < len(tensors):
        twice, _ = Counter(tensor.name for tensor in tensors).most_common(1)[0]
        raise InvalidRequest(f"input {clip(twice)!r} is given twice")
    return named


def _raw_by_name(request: ModelInferRequest) -> dict[str, bytes]:
    """Raw contents by input: of all of them, or of none."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs; it must have one for each"
        )
    return {tensor.name: content for tensor, content in zip(request.inputs, raw, strict=False)}


def _parse_input(spec: TensorSpec, tensor: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Array:
    if tensor.datatype != DATATYPES[spec.dtype]:
        raise InvalidRequest(
            f"input {spec.name!r} has datatype {clip(tensor.datatype)!r}; expected {DATATYPES[spec.dtype]}"
        )
    if "shared_memory_region" in tensor.parameters:
        raise InvalidRequest(
            f"input {spec.name!r} is in shared memory, which is not served; send its contents"
        )
    shape = _check_shape(spec, tensor.shape)
    if raw is None:
        return _not_empty(read_contents(tensor.contents, spec, shape), spec)
    if tensor.HasField("contents"):
        raise InvalidRequest(f"input {spec.name!r} has `contents` and raw ones; it may have one of them")
    return _not_empty(read_raw(memoryview(raw), spec, shape), spec)


def _check_shape(spec: TensorSpec, given: Sequence[int]) -> list[int]:
    if len(given) != len(spec.dims):
        raise InvalidRequest(
            f"input {spec.name!r} declares a shape of {len(given)} dimensions; expected {len(spec.dims)}: {spec.declaration}"
        )
    shape = list(given)
    if any(length < 0 for length in shape):
        raise InvalidRequest(f"input {spec.name!r} declares shape {shape}; lengths are at least 0")
    return shape


def _not_empty(array: Array, spec: TensorSpec) -> Array:
    if not array.size:
        raise InvalidRequest(
            f"input {spec.name!r} is empty; expected {spec.declaration} with at least one element"
        )
    return array


def _choose_outputs(signature: Signature, wanted: Sequence[str]) -> tuple[str, ...]:
    """All outputs, or those asked for, in the order asked."""
    known = tuple(spec.name for spec in signature.outputs)
    names = tuple(dict.fromkeys(wanted))
    for name in names:
        if name not in known:
            raise InvalidRequest(f"unknown output {clip(name)!r}; the model gives {', '.join(known)}")
    return names or known


def _value(parameter: InferParameter) -> object:
    choice = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, choice) if choice else None


def _parse_timeout(parameters: Mapping[str, Any]) -> float | None:
    """The parameter `timeout`, in microseconds, as seconds; clients send 0 for none."""
    if not parameters.get("timeout"):
        return None
    return check_timeout(parameters["timeout"], "parameter 'timeout'", "microseconds") / 1e6


def _parse_priority(parameters: Mapping[str, Any]) -> Priority | None:
    """0 or none leaves it to the metadata."""
    number = parameters.get("priority", 0)
    if type(number) is not int or not 0 <= number < len(_PRIORITIES):
        raise InvalidRequest(
            f"parameter 'priority' is {clip(str(number))!r}; it is 0 (default), 1 (interactive), 2 (standard) or 3 (bulk)"
        )
    return _PRIORITIES[number] if number else None
