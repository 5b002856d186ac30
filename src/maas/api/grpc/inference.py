"""`ModelInfer`: from a message to tensors, and from an answer to a message. Answers are raw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maas.api.grpc.contents import read_contents
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.grpc.parameters import read_parameters
from maas.api.oip.datatypes import BF16, DATATYPES, is_read_as
from maas.api.oip.infer import by_name, check_id, not_empty
from maas.api.oip.outputs import choose_outputs
from maas.api.oip.parameters import priority_of, timeout_of
from maas.api.oip.raw_tensors import read_raw, write_raw
from maas.api.operation import Call, Subject
from maas.batching.request import Answer
from maas.errors import InvalidRequest
from maas.tensors.check import given_inputs
from maas.types import Array, TensorSpec, clip


@dataclass(frozen=True, slots=True)
class InferForm:
    """The outputs to give, in this order, and the request's `id`."""

    outputs: tuple[str, ...]
    id: str


def parse_infer(
    subject: Subject, request: ModelInferRequest, contents: Sequence[bytes | memoryview]
) -> Call[InferForm]:
    """Of a request with these raw contents. Raises `InvalidRequest` naming the tensor, what was expected and what came."""
    given = by_name([(tensor.name, tensor) for tensor in request.inputs])
    specs = given_inputs(subject.signature, given)
    raw = _raw_by_name(request, contents)
    inputs = {spec.name: _parse_input(spec, given[spec.name], raw.get(spec.name)) for spec in specs}
    parameters = read_parameters(request.parameters)
    for output in request.outputs:
        read_parameters(output.parameters, f" of output {clip(output.name)!r}")
    outputs = choose_outputs(subject.signature, [output.name for output in request.outputs])
    form = InferForm(outputs, check_id(request.id))
    return Call(inputs, form, timeout_of(parameters), priority_of(parameters))


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


def _raw_by_name(
    request: ModelInferRequest, raw: Sequence[bytes | memoryview]
) -> dict[str, bytes | memoryview]:
    """Raw contents by input: of all of them, or of none."""
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs; it must have one for each"
        )
    return {tensor.name: content for tensor, content in zip(request.inputs, raw, strict=False)}


def _parse_input(
    spec: TensorSpec, tensor: ModelInferRequest.InferInputTensor, raw: bytes | memoryview | None
) -> Array:
    if not is_read_as(tensor.datatype, spec.dtype):
        raise InvalidRequest(
            f"input {spec.name!r} has datatype {clip(tensor.datatype)!r}; expected {DATATYPES[spec.dtype]}"
        )
    read_parameters(tensor.parameters, f" of input {spec.name!r}")
    shape = _check_shape(spec, tensor.shape)
    is_bf16 = tensor.datatype == BF16
    if raw is None:
        if is_bf16:
            raise InvalidRequest(f"input {spec.name!r} is BF16, which has no typed contents; send raw ones")
        return not_empty(read_contents(tensor.contents, spec, shape), spec)
    if tensor.HasField("contents"):
        raise InvalidRequest(f"input {spec.name!r} has `contents` and raw ones; it may have one of them")
    return not_empty(read_raw(memoryview(raw), spec, shape, is_bf16=is_bf16), spec)


def _check_shape(spec: TensorSpec, given: Sequence[int]) -> list[int]:
    if len(given) != len(spec.dims):
        raise InvalidRequest(
            f"input {spec.name!r} declares a shape of {len(given)} dimensions; expected {len(spec.dims)}: {spec.declaration}"
        )
    shape = list(given)
    if any(length < 0 for length in shape):
        raise InvalidRequest(f"input {spec.name!r} declares shape {shape}; lengths are at least 0")
    return shape
