"""Stacking requests' arrays into a batch, and splitting a batch's arrays back into requests."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from maas.types import Array, Signature, Tensors


def stack_key(signature: Signature, inputs: Tensors) -> Hashable:
    """Requests may share a batch if and only if their keys are equal.

    The key holds what stacking along `batch` must find equal: the variable dimensions, and the very contents of
    inputs that carry no `batch` (all requests of a batch would see the same one). It is None for the usual model,
    where every request stacks with every other, and for one whose requests run one by one anyway.
    """
    if signature.stacks_all or not signature.is_batched:
        return None
    return tuple(
        _shape_without(inputs[spec.name], spec.batch_axis)
        if spec.batch_axis is not None
        else _contents(inputs[spec.name])
        for spec in signature.inputs
    )


def split(array: Array, axis: int | None, rows: Sequence[int]) -> list[Array]:
    """Views of `array`, `rows[i]` long along `axis` and in order; the whole array for each where axis is None."""
    if axis is None:
        return [array] * len(rows)
    parts = []
    start = 0
    before = (slice(None),) * axis
    for count in rows:
        parts.append(array[(*before, slice(start, start + count))])
        start += count
    return parts


def _shape_without(array: Array, axis: int) -> tuple[int, ...]:
    return array.shape[:axis] + array.shape[axis + 1 :]


def _contents(array: Array) -> Hashable:
    return (array.shape, tuple(array.ravel()) if array.dtype.kind == "O" else array.tobytes())
