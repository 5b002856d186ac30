"""Holding arrays against a model's declared signature, before anything is queued and after anything has run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from maas.dtypes import is_bfloat16
from maas.errors import InvalidRequest, ModelFailed
from maas.types import BATCH, Array, Signature, Tensors, TensorSpec, clip

_UNPADDED: Mapping[str, int] = {}
_REMEMBERED = 1024  # sets of inputs, for a signature
_EXPONENT = np.uint16(0x7F80)  # of bfloat16; in NaN and the infinities all of its bits are set


def check_names(signature: Signature, names: Iterable[str]) -> None:
    """Raise `InvalidRequest` unless a request may have these inputs, and no others."""
    _check_names(signature, set(names), signature.required)


def _check_names(signature: Signature, given: set[str], needed: frozenset[str]) -> None:
    takes = f"the model takes {', '.join(map(_shown, signature.inputs))}"
    if unknown := given - signature.names:
        raise InvalidRequest(f"unknown input {clip(min(unknown))!r}; {takes}")
    missing = [repr(spec.name) for spec in signature.inputs if spec.name in needed - given]
    if missing:
        are_missing = "inputs {} are missing" if len(missing) > 1 else "input {} is missing"
        raise InvalidRequest(f"{are_missing.format(', '.join(missing))}; {takes}")
    if not given:
        raise InvalidRequest(f"there is no input; {takes}, at least one of them")


def given_inputs(signature: Signature, given: Mapping[str, object]) -> Sequence[TensorSpec]:
    """The declared inputs that are `given`. Raises `InvalidRequest` unless a request may have these, and no others."""
    if given.keys() == signature.names:
        return signature.inputs
    check_names(signature, given)
    return [spec for spec in signature.inputs if spec.name in given]


def lone_input(signature: Signature) -> TensorSpec | None:
    """What a single tensor without a name means: the input that may not be left out, where there is one, or the only one."""
    needed = [spec for spec in signature.inputs if spec.default is None] or signature.inputs
    return needed[0] if len(needed) == 1 else None


def _shown(spec: TensorSpec) -> str:
    return spec.name if spec.default is None else f"{spec.name} (or else {clip(repr(spec.plain_default))})"


def check_inputs(signature: Signature, inputs: Tensors) -> int:
    """Check every array against its declaration and return how many rows the request has.

    A named dimension must have one length over all inputs, within its bounds; `batch` must be at least 1.
    A model without `batch` gets 1. Raises `InvalidRequest` naming the tensor, what was expected and what came.
    """
    key = tuple([(name, array.dtype, array.shape) for name, array in inputs.items()])
    rows = signature.accepted.get(key)
    if rows is None:
        rows = _check(signature, inputs)
        if len(signature.accepted) >= _REMEMBERED:
            signature.accepted.clear()
        signature.accepted[key] = rows
    return rows


def check_outputs(
    signature: Signature, outputs: Mapping[str, object], rows: int, padded: Mapping[str, int] = _UNPADDED
) -> None:
    """Raise `ModelFailed` unless a runner's answer is what its model declares, for `rows` rows; with dimensions that are
    `padded` as long as it was given them, for they will be cut back."""
    for spec in signature.outputs:
        array = outputs.get(spec.name)
        if not isinstance(array, np.ndarray):
            raise ModelFailed(f"the model gave no array for its output {spec.name!r}")
        if array.dtype != spec.numpy_dtype:
            raise ModelFailed(f"output {spec.name!r} is {array.dtype}; the model declares {spec.dtype}")
        expected = [rows if dim == BATCH else padded.get(str(dim), dim) for dim in spec.dims]
        if len(expected) != array.ndim or any(
            isinstance(dim, int) and dim != length for dim, length in zip(expected, array.shape, strict=True)
        ):
            raise ModelFailed(
                f"output {spec.name!r} has shape {list(array.shape)}; the model declares {spec.declaration}"
                f" and the batch has {rows} rows{''.join(f', {dim} = {length}' for dim, length in padded.items())}"
            )
        if spec.dtype == "bytes" and not all(type(element) is bytes for element in array.flat):
            raise ModelFailed(f"output {spec.name!r} holds elements that are no bytes")


def is_finite(array: Array) -> bool:
    """Whether it holds neither NaN nor an infinity."""
    kind = array.dtype.kind
    if kind == "f":
        return bool(np.isfinite(array).all())
    if kind == "V" and is_bfloat16(array.dtype):
        # By its bits, in less than a tenth of the time that `np.isfinite` takes.
        return not bool((array.view(np.uint16) & _EXPONENT == _EXPONENT).any())
    return True


def check_finite(array: Array, name: str) -> None:
    """Raise `ModelFailed` with code `non_finite_output` where an output holds NaN or an infinity."""
    if not is_finite(array):
        raise ModelFailed(f"output {name!r} holds NaN or infinity", code="non_finite_output")


def _check(signature: Signature, inputs: Tensors) -> int:
    """How many rows the request has."""
    _check_names(signature, set(inputs), signature.names)
    return lengths_of(signature, inputs).get(BATCH, 1)


def lengths_of(signature: Signature, inputs: Tensors) -> dict[str, int]:
    """By their names the lengths of the dimensions of `inputs`, which may lack those that have a default.

    Raises `InvalidRequest` as `check_inputs` does.
    """
    check_names(signature, inputs)
    lengths: dict[str, tuple[int, str]] = {}
    for spec in signature.inputs:
        if spec.name in inputs:
            array = inputs[spec.name]
            if array.dtype != spec.numpy_dtype:
                raise InvalidRequest(f"input {spec.name!r} is {array.dtype}; expected {spec.dtype}")
            _check_shape(signature, spec, array.shape, lengths)
    return {dim: length for dim, (length, _) in lengths.items()}


def _check_shape(
    signature: Signature, spec: TensorSpec, shape: tuple[int, ...], lengths: dict[str, tuple[int, str]]
) -> None:
    if len(shape) != len(spec.dims):
        raise InvalidRequest(
            f"input {spec.name!r} has {len(shape)} dimensions {list(shape)}; expected {len(spec.dims)}: {spec.declaration}"
        )
    for axis, (dim, length) in enumerate(zip(spec.dims, shape, strict=True)):
        if isinstance(dim, int):
            if length != dim:
                raise InvalidRequest(
                    f"input {spec.name!r} has length {length} at axis {axis}; expected {dim}: {spec.declaration}"
                )
            continue
        known, owner = lengths.setdefault(dim, (length, spec.name))
        if known != length:
            raise InvalidRequest(
                f"input {spec.name!r} has {dim} = {length}, but input {owner!r} has {dim} = {known}"
            )
        if owner == spec.name:
            _check_bounds(signature, spec, dim, length)


def _check_bounds(signature: Signature, spec: TensorSpec, dim: str, length: int) -> None:
    bounds = signature.limits_of(dim)
    if length < bounds.min:
        raise InvalidRequest(f"input {spec.name!r} has {dim} = {length}; at least {bounds.min} is expected")
    if bounds.max is not None and length > bounds.max:
        raise InvalidRequest(f"input {spec.name!r} has {dim} = {length}; at most {bounds.max} is accepted")
