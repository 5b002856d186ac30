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
    signature: Signature, values: Mapping[str, object], *, allow_non_finite: bool
) -> tuple[dict[str, Array], bool]:
    """Arrays with every declared dimension, and whether the batch dimension had to be inserted.

    `values` are parsed JSON. Raises `InvalidRequest` naming the input, what was expected and what came.
    """
    check_names(signature, values.keys())
    inputs = {}
    singles: dict[str, bool] = {}
    for spec in signature.inputs:
        array = decode(values[spec.name], spec, allow_non_finite=allow_non_finite)
        if spec.batch_axis is not None:
            singles[spec.name] = _is_single(spec, array)
            if singles[spec.name]:
                array = array[None] if spec.batch_axis == 0 else np.expand_dims(array, spec.batch_axis)
        inputs[spec.name] = array
    if len(set(singles.values())) > 1:
        raise InvalidRequest(
            "all inputs must be single samples or all batches; "
            + ", ".join(
                f"{name!r} is a {'single sample' if one else 'batch'}" for name, one in singles.items()
            )
        )
    return inputs, any(singles.values())


def _is_single(spec: TensorSpec, array: Array) -> bool:
    rank = len(spec.dims)
    if array.ndim not in (rank, rank - 1):
        raise InvalidRequest(
            f"input {spec.name!r} has {array.ndim} dimensions {list(array.shape)}; expected {rank} for a batch, "
            f"{spec.declaration}, or {rank - 1} for a single sample"
        )
    return array.ndim == rank - 1
