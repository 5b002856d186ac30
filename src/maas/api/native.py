"""The native dialect: `POST /predict/{model}` with an object of the model's input names, and the catalogue of models.

A value of the declared rank is a batch, one rank lower a single sample (`maas.tensors.samples`), and the answer
mirrors it: the batch dimension is missing from every output that carries it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson
from fastapi import APIRouter

from maas.api.body import dump, parse_object
from maas.api.operation import Call, Operation, Payload, Subject
from maas.batching.request import Answer
from maas.errors import MaasError
from maas.gateway import Gateway
from maas.models.broken import BrokenVersion
from maas.models.live import LiveVersion
from maas.tensors.check import check_finite
from maas.tensors.nested import encode, is_plain
from maas.tensors.samples import decode_inputs
from maas.types import MAX_RANK, TensorSpec


@dataclass(frozen=True, slots=True)
class PredictForm:
    """Whether the request was a single sample, so that its answer is one too."""

    is_single: bool


_SINGLE, _BATCH = PredictForm(True), PredictForm(False)

# The index of the first row, by the axis of the batch; what it gives is an array still if it has no dimension left.
_FIRST: list[Any] = [(*(slice(None),) * axis, 0, ...) for axis in range(MAX_RANK)]


def parse_predict(subject: Subject, payload: Payload) -> Call[PredictForm]:
    """Raises `InvalidRequest` naming the input, what was expected and what came."""
    body = bytes(payload.data)
    allow_non_finite = subject.allow_non_finite
    values = parse_object(body, allow_non_finite=allow_non_finite)
    inputs, is_single = decode_inputs(
        subject.signature, values, allow_non_finite=allow_non_finite, is_plain=is_plain(body)
    )
    return Call(inputs, _SINGLE if is_single else _BATCH)


def render_predict(subject: Subject, form: PredictForm, answer: Answer) -> Payload:
    """Raises `ModelFailed` where an output cannot be said in JSON."""
    outputs = {}
    for spec in subject.signature.outputs:
        array = answer.outputs[spec.name]
        if not answer.is_finite and not subject.allow_non_finite:
            check_finite(array, spec.name)
        if form.is_single and spec.batch_axis is not None:
            array = array[_FIRST[spec.batch_axis]]
        outputs[spec.name] = encode(array, spec.name)
    return Payload(dump(outputs, is_finite=answer.is_finite))


def render_error(error: MaasError, request_id: str) -> bytes:
    return orjson.dumps({"error": error.message, "code": error.code, "request_id": request_id})


PREDICT = Operation("predict", PredictForm, parse_predict, render_predict, render_error)


def catalogue(gateway: Gateway) -> APIRouter:
    """The models that are served, with what they take, what they give, and their cards."""
    router = APIRouter(tags=["models"])

    @router.get("/models", summary="Models that are served")
    async def list_models() -> dict[str, Any]:
        registry = gateway.registry
        live = [_summary(gateway, version) for version in registry.versions()]
        return {"models": [*live, *map(_broken_summary, registry.broken)]}

    @router.get("/models/{model}", summary="A model's default version: signature, state and model card")
    async def get_model(model: str) -> dict[str, Any]:
        return _describe(gateway, gateway.registry.resolve(model))

    @router.get("/models/{model}/versions/{version}", summary="A version: signature, state and model card")
    async def get_version(model: str, version: str) -> dict[str, Any]:
        return _describe(gateway, gateway.registry.resolve(model, version))

    return router


def _summary(gateway: Gateway, live: LiveVersion) -> dict[str, Any]:
    return {
        "name": live.name,
        "version": live.version,
        "state": live.state,
        "reason": live.reason,
        "default": gateway.registry.is_default(live),
        "digest": live.digest,
    }


def _broken_summary(broken: BrokenVersion) -> dict[str, Any]:
    return {"name": broken.name, "version": broken.version, "state": "failed", "reason": broken.reason}


def _describe(gateway: Gateway, live: LiveVersion) -> dict[str, Any]:
    manifest = live.manifest
    return {
        **_summary(gateway, live),
        "description": manifest.description,
        "license": manifest.license,
        "runtime": manifest.runtime.name,
        "idempotent": manifest.idempotent,
        "allow_non_finite": manifest.allow_non_finite,
        "inputs": [_tensor(spec) for spec in live.signature.inputs],
        "outputs": [_tensor(spec) for spec in live.signature.outputs],
        "dimensions": {name: asdict(bounds) for name, bounds in live.signature.bounds.items()},
        "batching": {
            "max_batch_size": live.policy.max_batch_size,
            "max_batch_cost": live.policy.max_batch_cost,
            "max_queue_delay": live.policy.max_queue_delay,
        },
        "curve": [asdict(point) for point in live.curve],
        "card": manifest.card,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    default = {} if spec.default is None else {"default": spec.plain_default}
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.dims), **default}
