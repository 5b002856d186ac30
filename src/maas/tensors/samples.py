"""Inputs as people write them: a single sample without its batch dimension, or a batch of samples.

A value of the declared rank is a batch, one rank lower a single sample. All inputs that carry `batch` are single or all
are batched; an input or a model without `batch` takes its declared rank only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from maas.errors import InvalidRequest
from maas.tensors.check import check_names
from maas.tensors.nested import decode
from maas.types import Array, Signature, TensorSpec


def decode_inputs(
    signature: Signature, values: Mapping[str, object], *, allow_non_finite: bool, is_plain: bool = False
) -> tuple[dict[str, Array], bool]:
    """Arrays with every declared dimension, and whether the batch dimension had to be inserted. What is left out and has a
    default is left out here too.

    `values` are parsed JSON, whose text `is_plain` or not. Raises `InvalidRequest` naming the input, what was expected and
    what came.
    """
    if len(values) != len(signature.inputs):
        check_names(signature, values)
    inputs = {}
    singles = []
    for spec in signature.inputs:
        name = spec.name
        if name not in values:
            check_names(signature, values)
            continue
        array = decode(values[name], spec, allow_non_finite=allow_non_finite, is_plain=is_plain)
        axis = spec.batch_axis
        if axis is not None:
            missing = len(spec.dims) - array.ndim
            if missing == 1:
                array = array[None] if axis == 0 else np.expand_dims(array, axis)
                singles.append(name)
            elif missing:
                raise _wrong_rank(spec, array)
        inputs[name] = array
    if singles and len(singles) < len(signature.batched):
        _check_mixed([name for name in signature.batched if name in inputs], singles)
    return inputs, bool(singles)


def _check_mixed(batched: list[str], singles: list[str]) -> None:
    """Of those of the inputs that are there and carry `batch`."""
    if len(singles) == len(batched):
        return
    kinds = (f"{name!r} is a {'single sample' if name in singles else 'batch'}" for name in batched)
    raise InvalidRequest("all inputs must be single samples or all batches; " + ", ".join(kinds))


def _wrong_rank(spec: TensorSpec, array: Array) -> InvalidRequest:
    rank = len(spec.dims)
    return InvalidRequest(
        f"input {spec.name!r} has {array.ndim} dimensions {list(array.shape)}; expected {rank} for a batch, "
        f"{spec.declaration}, or {rank - 1} for a single sample"
    )
