"""A version's tensors as schemas: their names, types and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maas.api.openapi.names import KINDS, Names
from maas.api.openapi.schema import Schema, record
from maas.dtypes import float_info, is_bfloat16, is_float
from maas.models.live import LiveVersion
from maas.types import BATCH, TensorSpec


def version_schemas(live: LiveVersion, names: Names) -> dict[str, Schema]:
    """Of its request and its answer. Titles are what some generators name their classes by."""
    sides = dict(zip(KINDS, (live.signature.inputs, live.signature.outputs), strict=True))
    return {
        f"{names.schema}.{kind}": {
            **record({spec.name: _tensor(live, spec) for spec in specs}, optional=_with_default(specs)),
            "title": f"{names.title} {kind}",
            "additionalProperties": False,
        }
        for kind, specs in sides.items()
    }


def _with_default(specs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in specs if spec.default is not None]


def _tensor(live: LiveVersion, spec: TensorSpec) -> Schema:
    """A single sample or a batch of them, where the tensor carries `batch`; else what is declared."""
    declared = _nested(live, spec, spec.dims)
    if spec.default is not None and not spec.dims:  # of others the default is as long as the other inputs are
        declared["default"] = spec.plain_default
    if spec.batch_axis is None:
        return {"description": spec.declaration, **declared}
    return {"description": spec.declaration, "anyOf": [_nested(live, spec, spec.sample_dims), declared]}


def _nested(live: LiveVersion, spec: TensorSpec, dims: tuple[int | str, ...]) -> Schema:
    schema = _element(spec)
    for dim in reversed(dims):
        least, most = _lengths(live, dim)
        schema = {"type": "array", "items": schema, "minItems": least}
        if most is not None:
            schema["maxItems"] = most
    return schema


def _lengths(live: LiveVersion, dim: int | str) -> tuple[int, int | None]:
    if isinstance(dim, int):
        return dim, dim
    if dim == BATCH:
        return 1, live.policy.max_batch_size
    bounds = live.signature.limits_of(dim)
    return bounds.min, bounds.max


def _element(spec: TensorSpec) -> Schema:
    match spec.numpy_dtype.kind:
        case "b":
            return {"type": "boolean"}
        case "O":
            return {"type": "string"}
    if is_float(spec.numpy_dtype):
        return _float_element(spec.numpy_dtype)
    info = np.iinfo(spec.numpy_dtype)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def _float_element(dtype: np.dtype[Any]) -> Schema:
    """A finite number is refused where it overflows: from half a step above the greatest value on it rounds to infinity."""
    if dtype == np.float64:
        return {"type": "number"}
    info = float_info(dtype)
    beyond = 2.0 ** int(info.maxexp) - 2.0 ** (int(info.maxexp) - int(info.nmant) - 2)
    if is_bfloat16(
        dtype
    ):  # a number becomes a float32 first, and so is on that half step already where it is as near to it
        beyond -= 2.0 ** (int(info.maxexp) - 25)
    return {"type": "number", "exclusiveMinimum": -beyond, "exclusiveMaximum": beyond}
