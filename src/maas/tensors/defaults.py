"""Inputs that a request has left out: arrays of their default."""

from __future__ import annotations

import numpy as np

from maas.tensors.check import lengths_of
from maas.tensors.nested import check_string_count
from maas.types import Array, Signature, Tensors, TensorSpec


def complete(signature: Signature, inputs: Tensors) -> Tensors:
    """`inputs` with those that are missing, each as long as the others say.

    What is added is a view of one element, so it takes no memory until it is stacked, by when its size has been judged.
    Raises `InvalidRequest` where an input is missing that has no default, and where one that is there is not as declared.
    """
    if len(inputs) == len(signature.inputs):
        return inputs
    lengths = lengths_of(signature, inputs)
    return {
        spec.name: inputs[spec.name] if spec.name in inputs else _filled(spec, lengths)
        for spec in signature.inputs
    }


def _filled(spec: TensorSpec, lengths: dict[str, int]) -> Array:
    element = np.empty((), spec.numpy_dtype)
    element[()] = spec.default
    array = np.broadcast_to(element, [dim if isinstance(dim, int) else lengths[dim] for dim in spec.dims])
    if spec.dtype == "bytes":
        check_string_count(spec, array.size)
    return array
