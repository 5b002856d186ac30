"""The questions a client may ask: what each one sends, and what it makes of the reply. No I/O."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import httpx
import numpy as np

from maas.client.raw import RawSignature, encode_raw, read_raw, read_signature
from maas.client.replies import Reply
from maas.client.wire import encode_inputs
from maas.errors import InvalidRequest
from maas.types import Array, check_model_name, check_version_name, clip

T_co = TypeVar("T_co", covariant=True)

_MILLISECOND = 0.001
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_TIMING = re.compile(r"([A-Za-z0-9_-]+)\s*;\s*dur=(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A model's answer.

    `outputs` are arrays as JSON tells them: float64, int64 (uint64 where a number needs it), bool, or an object
    array of `str`; a scalar is a 0-d array. JSON names no dtype, but nothing is lost: `astype` to the dtype that
    the model declares gives the server's values bit for bit.
    """

    outputs: dict[str, Array]
    model_version: str | None  # NAME/VERSION; None, as the digest, if something in between dropped the header
    digest: str | None
    request_id: str
    timings: dict[str, float]  # seconds in the server by stage: `queue`, `compute`, `total`


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One question: what is sent, and `read`, which turns its reply into a value or raises an error of our tree."""

    method: str
    path: str
    read: Callable[[Reply], T_co]
    request_id: str
    body: bytes | None = None
    may_repeat: bool = True  # whether a refused attempt may be followed by another
    media: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "application/json"}
    )  # of the body
    idempotence: Call[bool] | None = None
    """Asks whether what may have run may run again; without it, it may not."""

    @property
    def headers(self) -> dict[str, str]:
        media = {} if self.body is None else self.media
        return {"accept": "application/json", "x-request-id": self.request_id, **media}

    def reply(self, response: httpx.Response, body: bytes) -> Reply:
        return Reply(shown(response.url), self.request_id, response.status_code, response.headers, body)


def predict_call(
    model: str, inputs: Mapping[str, object], *, version: str | None, request_id: str | None
) -> Call[Prediction]:
    """Run `model` on `inputs`; raises `InvalidRequest` for what cannot be sent."""
    return Call(
        "POST",
        "/predict/" + _model_path(model, version),
        _prediction,
        _new_id() if request_id is None else _checked_id(request_id),
        encode_inputs(inputs),
        idempotence=_idempotence_call(model, version),
    )


def raw_predict_call(
    signature: RawSignature,
    model: str,
    inputs: Mapping[str, object],
    *,
    version: str | None,
    request_id: str | None,
) -> Call[Prediction] | None:
    """The same with raw tensors; None for what has to go as JSON."""
    request = encode_raw(signature, inputs)
    if request is None:
        return None
    return Call(
        "POST",
        f"/v2/models/{_model_path(model, version)}/infer",
        lambda reply: _predicted(read_raw(signature, request.is_single, reply), reply),
        _new_id() if request_id is None else _checked_id(request_id),
        request.body,
        media=request.headers,
        idempotence=_idempotence_call(model, version),
    )


def signature_call(model: str, version: str | None) -> Call[RawSignature | None]:
    """What raw tensors have to be like."""
    return Call("GET", "/models/" + _model_path(model, version), read_signature, _new_id())


def _idempotence_call(model: str, version: str | None) -> Call[bool]:
    return Call(
        "GET",
        "/models/" + _model_path(model, version),
        lambda reply: reply.document().get("idempotent") is True,
        _new_id(),
        may_repeat=False,
    )


def models_call() -> Call[list[dict[str, object]]]:
    return Call("GET", "/models", _models, _new_id())


def model_call(model: str, version: str | None) -> Call[dict[str, object]]:
    return Call("GET", "/models/" + _model_path(model, version), Reply.document, _new_id())


def load_call(model: str, version: str | None) -> Call[dict[str, object]]:
    return Call("POST", f"/admin/models/{_model_path(model, version)}/load", Reply.document, _new_id())


def unload_call(model: str, version: str | None) -> Call[list[dict[str, object]]]:
    return Call("POST", f"/admin/models/{_model_path(model, version)}/unload", _models, _new_id())


def refresh_call() -> Call[list[dict[str, object]]]:
    return Call("POST", "/admin/refresh", _models, _new_id())


def health_call(word: str) -> Call[bool]:
    """Ask whether the server is `live` or `ready`; asked once, for the question is about now."""
    return Call("GET", f"/v2/health/{word}", lambda reply: reply.says(word), _new_id(), may_repeat=False)


def shown(url: httpx.URL) -> str:
    """`url` as a message may show it: a password that it carries is for the server alone."""
    return str(url.copy_with(userinfo=b""))


def _model_path(model: str, version: str | None) -> str:
    check_model_name(model)
    return model if version is None else f"{model}/versions/{check_version_name(version)}"


def _new_id() -> str:
    return uuid.uuid4().hex


def _checked_id(request_id: str) -> str:
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest(f"{clip(request_id)!r} is no request id: it must match {_REQUEST_ID.pattern}")
    return request_id


def _prediction(reply: Reply) -> Prediction:
    document = reply.document()
    try:
        outputs = {name: _array(value) for name, value in document.items()}
    except ValueError as error:
        raise reply.unreadable(error) from error
    return _predicted(outputs, reply)


def _predicted(outputs: dict[str, Array], reply: Reply) -> Prediction:
    return Prediction(
        outputs,
        reply.headers.get("x-model-version"),
        reply.headers.get("x-model-digest"),
        reply.request_id,
        _timings(reply.headers.get("server-timing", "")),
    )


def _array(value: object) -> Array:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise ValueError("an output holds something else than numbers, booleans or strings")
    if array.dtype.kind == "U":  # NumPy's own strings drop trailing NULs
        return np.asarray(value, dtype=object)
    if array.dtype == np.float64 and (array >= 2.0**63).any():
        return _exact(value, array)
    return array


def _exact(value: object, array: Array) -> Array:
    """uint64 if all are integers: NumPy reads a mix of small and large ones as float64, and rounds."""
    elements = np.asarray(value, dtype=object)
    return elements.astype(np.uint64) if all(type(number) is int for number in elements.flat) else array


def _models(reply: Reply) -> list[dict[str, object]]:
    models = reply.document().get("models")
    if not isinstance(models, list):
        raise reply.unreadable("no list of models")
    return models


def _timings(header: str) -> dict[str, float]:
    return {stage: float(duration) * _MILLISECOND for stage, duration in _TIMING.findall(header)}
