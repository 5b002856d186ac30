"""One request body against a plain `json` reading of it: both refuse it, or both find the same tensors in it.

The first byte of an input chooses who reads the rest: a dialect, and a model of some signature.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from tests.fuzz.models import BOUNDS, SIGNATURES
from tests.tensors.reference import NoTensor, reference

from maas.api.codec_process import DescribedSubject
from maas.api.errors import status_of
from maas.api.native import PREDICT
from maas.api.oip.datatypes import DATATYPES
from maas.api.oip.infer import INFER
from maas.api.operation import Call, Payload, Subject
from maas.errors import MaasError
from maas.tensors.check import check_inputs
from maas.types import Signature, TensorSpec

SLOWEST = 2.0  # seconds for a body of a few kilobytes, on a busy machine
_LONGEST = (1 << 63) - 1


@dataclass(frozen=True)
class Reading:
    """What a body says: shape and elements of each input, and what its dialect has beside them."""

    inputs: dict[str, tuple[list[int], list[Any]]]
    is_single: bool = False
    outputs: tuple[str, ...] = ()
    id: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Case:
    """Who reads a body, and how the reference does."""

    name: str
    subject: Subject
    parse: Callable[[Subject, bytes], Reading]
    expect: Callable[[Subject, Any], Reading]
    allow_non_finite: bool


def check(case: Case, body: bytes) -> Reading | None:
    """What `case` reads in `body`, or None where it refuses it. Raises `AssertionError` where the two readings differ, and
    whatever the parser raises that is none of our errors below 500."""
    started = time.monotonic()
    try:
        found = case.parse(case.subject, body)
    except MaasError as error:
        if status_of(error) >= 500:
            raise
        error.message.encode()
        found = None
    assert time.monotonic() - started < SLOWEST, case.name
    try:
        expected = _expect(case, body)
    except RecursionError:
        return found  # each parser draws its own line on how deep a body may be nested
    assert _same(found, expected), f"{case.name}: {body!r} is read as {found}; expected {expected}"
    return found


def choose(data: bytes) -> tuple[Case, bytes]:
    """The case that the first byte means, and the body behind it."""
    return CASES[data[0] % len(CASES) if data else 0], data[1:]


# ── what the server reads ────────────────────────────────────────────────────────────────────────────────────────


def _predict(subject: Subject, body: bytes) -> Reading:
    call = PREDICT.parse(subject, Payload(body))
    return replace(_read(subject, call), is_single=call.form.is_single)


def _infer(subject: Subject, body: bytes) -> Reading:
    call = INFER.parse(subject, Payload(body))
    return replace(_read(subject, call), outputs=call.form.outputs, id=call.form.id, timeout=call.timeout)


def _read(subject: Subject, call: Call[Any]) -> Reading:
    check_inputs(subject.signature, call.inputs)
    return Reading({name: (list(array.shape), array.ravel().tolist()) for name, array in call.inputs.items()})


# ── what a plain reading finds ───────────────────────────────────────────────────────────────────────────────────


def _expect(case: Case, body: bytes) -> Reading | None:
    """Raises `RecursionError` where the standard library finds the body nested too deep."""
    try:
        text = body.decode()
        value = json.loads(
            text,
            parse_constant=None if case.allow_non_finite else _refuse,
            parse_float=_finite,
            parse_int=_finite_int,
            object_pairs_hook=_unique,
        )
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be
        found = case.expect(case.subject, value)
        _check_lengths(case.subject.signature, found)
    except (NoTensor, ValueError):
        return None
    return found


def _expect_predict(subject: Subject, value: Any) -> Reading:
    _require(isinstance(value, dict) and value.keys() == {spec.name for spec in subject.signature.inputs})
    inputs, singles = {}, set()
    for spec in subject.signature.inputs:
        shape, flat = reference(value[spec.name], spec.dtype, subject.allow_non_finite)
        if spec.batch_axis is not None:
            singles.add(len(shape) == len(spec.dims) - 1)
            if len(shape) == len(spec.dims) - 1:
                shape = [*shape[: spec.batch_axis], 1, *shape[spec.batch_axis :]]
        inputs[spec.name] = shape, flat
    _require(len(singles) <= 1)
    return Reading(inputs, is_single=True in singles)


def _expect_infer(subject: Subject, value: Any) -> Reading:
    _require(isinstance(value, dict))
    given = _named(value.get("inputs"))
    _require(len(given) == len(value["inputs"]))
    _require(given.keys() == {spec.name for spec in subject.signature.inputs})
    inputs = {spec.name: _expect_tensor(spec, given[spec.name]) for spec in subject.signature.inputs}
    for tensor in value["inputs"]:  # nothing lies behind the JSON here, so no tensor can
        _require(_parameters(tensor).get("binary_data_size") is None)
    known = [spec.name for spec in subject.signature.outputs]
    asked = tuple(_named(value["outputs"])) if value.get("outputs") is not None else ()
    _require(all(name in known for name in asked))
    for tensor in value["outputs"] if asked else ():
        _require(isinstance(_parameters(tensor).get("binary_data", False), bool))
    _require(isinstance(_parameters(value).get("binary_data_output", False), bool))
    _require(value.get("id") is None or isinstance(value["id"], str))
    return Reading(inputs, outputs=asked or tuple(known), id=value.get("id"), timeout=_expect_timeout(value))


def _expect_tensor(spec: TensorSpec, tensor: Mapping[str, Any]) -> tuple[list[int], list[Any]]:
    shape = tensor.get("shape")
    _require(tensor.get("datatype") == DATATYPES[spec.dtype] and "data" in tensor)
    _require(isinstance(shape, list) and all(type(n) is int and 0 <= n <= _LONGEST for n in shape))
    _require(len(shape) == len(spec.dims))
    nested, flat = reference(tensor["data"], spec.dtype, allow_non_finite=True)
    _require(len(flat) == math.prod(shape) > 0 and (len(nested) <= 1 or nested == shape))
    return shape, flat


def _expect_timeout(value: Mapping[str, Any]) -> float | None:
    parameters = _parameters(value)
    if "timeout" not in parameters:
        return None
    timeout = parameters["timeout"]
    if type(timeout) is int and timeout == 0:
        return None
    _require(isinstance(timeout, int | float) and not isinstance(timeout, bool))
    try:
        seconds = float(timeout) / 1e6
    except OverflowError:
        raise NoTensor from None
    _require(math.isfinite(seconds) and float(timeout) > 0)
    return seconds


def _parameters(owner: Mapping[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = owner.get("parameters", {})
    _require(isinstance(parameters, dict))
    return parameters


def _named(tensors: Any) -> dict[str, Any]:
    _require(isinstance(tensors, list) and all(isinstance(tensor, dict) for tensor in tensors))
    _require(all(isinstance(tensor.get("name"), str) for tensor in tensors))
    return {tensor["name"]: tensor for tensor in tensors}


def _check_lengths(signature: Signature, reading: Reading) -> None:
    lengths: dict[str, int] = {}
    for spec in signature.inputs:
        shape, _ = reading.inputs[spec.name]
        _require(len(shape) == len(spec.dims))
        for dim, length in zip(spec.dims, shape, strict=True):
            bounds = signature.limits_of(dim) if isinstance(dim, str) else None
            _require(length == (lengths.setdefault(dim, length) if bounds else dim))
            _require(bounds is None or bounds.min <= length <= (bounds.max or length))


def _require(claim: bool) -> None:
    if not claim:
        raise NoTensor


def _refuse(text: str) -> NoReturn:
    raise NoTensor


def _finite(text: str) -> float:
    number = float(text)
    _require(math.isfinite(number))
    return number


def _finite_int(text: str) -> int:
    _finite(text)
    return int(text)


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    _require(len(dict(members)) == len(members))
    return dict(members)


def _same(found: Reading | None, expected: Reading | None) -> bool:
    """Equal to the last bit: the text of a number tells NaN, the sign of a zero, and 1 from 1.0."""
    return repr(found) == repr(expected)


# ── who reads ────────────────────────────────────────────────────────────────────────────────────────────────────


def _subject(name: str, inputs: Mapping[str, str], *, allow_non_finite: bool) -> Subject:
    used = " ".join(inputs.values())
    bounds = {dim: each for dim, each in BOUNDS.items() if dim in used}
    return DescribedSubject(name, "1", Signature.parse(inputs, inputs, bounds), allow_non_finite)


def _cases() -> list[Case]:
    cases = []
    for name, inputs in SIGNATURES.items():
        for allow in (False, True):
            subject = _subject(name, inputs, allow_non_finite=allow)
            cases.append(Case(f"predict {name} {allow}", subject, _predict, _expect_predict, allow))
        cases.append(Case(f"infer {name}", subject, _infer, _expect_infer, True))
    return cases


CASES = _cases()
