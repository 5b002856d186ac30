"""Requests of other lengths than the one at hand, made of its own elements."""

from __future__ import annotations

import numpy as np

from maas.types import Array, Lengths, Signature, Tensors


def resize(signature: Signature, inputs: Tensors, lengths: Lengths) -> dict[str, Array]:
    """`inputs` with variable dimensions of `lengths`: cut, or their elements over and over."""
    wanted = {dim.name: length for dim, length in zip(signature.variable, lengths, strict=True)}
    resized = {}
    for spec in signature.inputs:
        array = inputs[spec.name]
        for axis, dim in enumerate(spec.dims):
            if isinstance(dim, str) and dim in wanted and wanted[dim] != array.shape[axis]:
                array = np.take(array, np.arange(wanted[dim]) % array.shape[axis], axis)
        resized[spec.name] = array
    return resized
