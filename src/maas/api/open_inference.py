"""The Open Inference Protocol, version 2, over REST, with tensors in JSON or raw behind it.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import JSONResponse

import maas
from maas.api.body import dump, parse_object
from maas.api.operation import Call, Operation, Payload, Subject
from maas.api.raw_tensors import read_raw, write_raw
from maas.api.terms import check_timeout
from maas.batching.request import Answer
from maas.errors import InvalidRequest, MaasError
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.tensors.check import wrong_names
from maas.tensors.nested import decode, encode, is_plain
from maas.types import Array, Signature, TensorSpec, clip

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
    "float32": "FP32",
    "float64": "FP64",
    "bytes": "BYTES",
}
_MAX_LENGTH = (1 << 63) - 1  # of a dimension: the protocol has them as int64
MAX_ID = 4096  # characters


@dataclass(frozen=True, slots=True)
class InferForm:
    """The outputs to give, in this order, those of them that are given as raw bytes, and the request's `id`."""

    outputs: tuple[str, ...]
    raw: tuple[str, ...]
    id: str | None


def parse_infer(subject: Subject, payload: Payload) -> Call[InferForm]:
    """Raises `InvalidRequest` naming the tensor, what was expected and what came."""
    body, behind = _cut(payload)
    request = parse_object(body, allow_non_finite=True)
    entries = _entries(request.get("inputs"), "inputs")
    raw = _cut_raw(entries, behind)
    given = _by_name(entries)
    if given.keys() != subject.signature.names:
        raise wrong_names(subject.signature, given)
    plain = is_plain(body)
    inputs = {
        spec.name: _parse_input(spec, given[spec.name], raw.get(spec.name), plain)
        for spec in subject.signature.inputs
    }
    parameters = _parameters(request, "")
    wanted = request.get("outputs")
    outputs = _choose_outputs(subject.signature, wanted)
    form = InferForm(outputs, _choose_raw(outputs, wanted, parameters), _parse_id(request))
    return Call(inputs, form, _parse_timeout(parameters))


def render_infer(subject: Subject, form: InferForm, answer: Answer) -> Payload:
    """Raises `ModelFailed` where an output holds bytes that are no text."""
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


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Not now; the body says why."}}

INFER = Operation(
    "infer",
    InferForm,
    parse_infer,
    render_infer,
    render_error,
    takes_raw=True,
    gives_raw=lambda form: len(form.raw) == len(form.outputs),
)


def metadata(gateway: Gateway) -> APIRouter:
    """Health and metadata."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("/health/live", summary="The process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Models may be sent traffic", responses=_NOT_READY)
    async def ready() -> JSONResponse:
        return _ready(gateway)

    @router.get("", summary="Server metadata")
    @router.get("/", include_in_schema=False)
    async def server() -> dict[str, Any]:
        return {"name": "maas", "version": maas.__version__, "extensions": ["binary_tensor_data"]}

    @router.get("/models/{model}", summary="Model metadata")
    async def model_metadata(model: str) -> dict[str, Any]:
        return _describe(gateway, gateway.registry.resolve(model))

    @router.get("/models/{model}/versions/{version}", summary="Model metadata of a version")
    async def model_metadata_version(model: str, version: str) -> dict[str, Any]:
        return _describe(gateway, gateway.registry.resolve(model, version))

    @router.get("/models/{model}/ready", summary="The model may be sent traffic", responses=_NOT_READY)
    async def model_ready(model: str) -> JSONResponse:
        return _model_ready(gateway, gateway.registry.resolve(model))

    @router.get(
        "/models/{model}/versions/{version}/ready",
        summary="The version may be sent traffic",
        responses=_NOT_READY,
    )
    async def model_ready_version(model: str, version: str) -> JSONResponse:
        return _model_ready(gateway, gateway.registry.resolve(model, version))

    return router


def _ready(gateway: Gateway) -> JSONResponse:
    readiness = gateway.readiness()
    body: dict[str, Any] = {"ready": readiness.is_ready}
    if readiness.reason:
        body["error"] = readiness.reason
    if readiness.failed:
        body["failed"] = readiness.failed
    return JSONResponse(body, 200 if readiness.is_ready else 503)


def _model_ready(gateway: Gateway, live: LiveVersion) -> JSONResponse:
    body: dict[str, Any] = {"name": live.name, "version": live.version}
    if reason := gateway.outage_of(live):
        return JSONResponse({**body, "ready": False, "error": f"{live.label} is not ready: {reason}"}, 503)
    return JSONResponse({**body, "ready": True})


def _describe(gateway: Gateway, live: LiveVersion) -> dict[str, Any]:
    """The protocol's properties are texts: what has a structure is JSON in one."""
    manifest = live.manifest
    return {
        "name": live.name,
        "versions": [other.version for other in gateway.registry.versions_of(live.name)],
        "platform": manifest.runtime.name,
        "inputs": [_describe_tensor(spec) for spec in live.signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in live.signature.outputs],
        "properties": {
            "version": live.version,
            "digest": live.digest,
            "description": manifest.description,
            "license": manifest.license or "",
            "card": orjson.dumps(manifest.card, option=orjson.OPT_NON_STR_KEYS).decode(),
            "curve": orjson.dumps(live.curve).decode(),
        },
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    """A dimension that is not fixed is -1."""
    shape = [dim if isinstance(dim, int) else -1 for dim in spec.dims]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _entries(tensors: object, key: str) -> list[tuple[str, dict[str, Any]]]:
    """A request's `inputs` or `outputs` with their names, as they stand."""
    if not isinstance(tensors, list):
        raise InvalidRequest(f"`{key}` must be a list of tensors")
    entries = []
    for index, tensor in enumerate(tensors):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest(f"{key}[{index}] must be an object with a `name`")
        entries.append((name, tensor))
    return entries


def _by_name(entries: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
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
        size = _parameters(tensor, f" of input {clip(name)!r}").get("binary_data_size")
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


def _parameters(owner: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"`parameters`{of} must be an object")
    return parameters


def _choose_raw(outputs: tuple[str, ...], wanted: object, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `outputs` to be given as raw bytes: all, or none, but for those that say it themselves."""
    all_raw = _flag(parameters, "binary_data_output", False)
    chosen = dict.fromkeys(outputs, all_raw)
    if wanted is not None:
        for name, tensor in _entries(wanted, "outputs"):
            parameters = _parameters(tensor, f" of output {clip(name)!r}")
            chosen[name] = _flag(parameters, "binary_data", all_raw)
    return tuple(name for name in outputs if chosen[name])


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} is {clip(str(value))!r}; it must be true or false")
    return value


def _parse_input(
    spec: TensorSpec, tensor: Mapping[str, Any], raw: memoryview | None, is_plain: bool
) -> Array:
    datatype = tensor.get("datatype")
    if datatype != DATATYPES[spec.dtype]:
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
        return _not_empty(read_raw(raw, spec, shape), spec)
    if "data" not in tensor:
        raise InvalidRequest(f"input {spec.name!r} needs `data`, a list of {DATATYPES[spec.dtype]} elements")
    array = decode(tensor["data"], spec, allow_non_finite=True, is_plain=is_plain)
    is_flat = array.ndim <= 1
    if array.size != prod(shape) or not (is_flat or list(array.shape) == shape):
        raise InvalidRequest(
            f"input {spec.name!r} declares shape {clip(str(shape))}, which is {prod(shape)} elements, but its data has "
            f"{array.size}" + ("" if is_flat else f" in shape {list(array.shape)}")
        )
    return _not_empty(array, spec).reshape(shape)


def _not_empty(array: Array, spec: TensorSpec) -> Array:
    if not array.size:
        raise InvalidRequest(
            f"input {spec.name!r} is empty; expected {spec.declaration} with at least one element"
        )
    return array


def _choose_outputs(signature: Signature, wanted: object) -> tuple[str, ...]:
    """All outputs, or those asked for, in the order asked."""
    known = tuple(spec.name for spec in signature.outputs)
    if wanted is None:
        return known
    names = tuple(dict.fromkeys(name for name, _ in _entries(wanted, "outputs")))
    for name in names:
        if name not in known:
            raise InvalidRequest(f"unknown output {clip(name)!r}; the model gives {', '.join(known)}")
    return names or known


def _parse_id(request: Mapping[str, Any]) -> str | None:
    identifier = request.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidRequest("`id` must be a string")
    if identifier is not None and len(identifier) > MAX_ID:
        raise InvalidRequest(f"`id` has {len(identifier)} characters; at most {MAX_ID} are echoed")
    return identifier


def _parse_timeout(parameters: Mapping[str, Any]) -> float | None:
    """The parameter `timeout` of the protocol's scheduling extension, in microseconds, as seconds."""
    if "timeout" not in parameters:
        return None
    return check_timeout(parameters["timeout"], "parameter 'timeout'", "microseconds") / 1e6


def _render_output(spec: TensorSpec, array: Array, raw: bytes | None) -> dict[str, Any]:
    tensor = {"name": spec.name, "shape": list(array.shape), "datatype": DATATYPES[spec.dtype]}
    if raw is not None:
        return {**tensor, "parameters": {"binary_data_size": len(raw)}}
    return {**tensor, "data": encode(array.reshape(-1), spec.name)}
