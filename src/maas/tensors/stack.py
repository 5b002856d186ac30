"""Stacking requests' arrays into a batch, and splitting a batch's arrays back into requests."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from maas.tensors.packing import Column
from maas.types import Array, Lengths, Signature, Tensors, TensorSpec


def stack_key(signature: Signature, inputs: Tensors) -> Hashable:
    """Requests may share a batch if and only if their keys are equal.

    The key holds what stacking along `batch` must find equal: the variable dimensions that may not be padded, and the
    very contents of inputs that carry no `batch` (all requests of a batch would see the same one). It is None for the
    usual model, where every request stacks with every other, and for one whose requests run one by one anyway.
    """
    if signature.stacks_all or not signature.is_batched:
        return None
    return tuple(
        _shape_without(inputs[spec.name], (spec.batch_axis, *signature.padded_axes(spec)))
        if spec.batch_axis is not None
        else _contents(inputs[spec.name])
        for spec in signature.inputs
    )


def stack(signature: Signature, requests: Sequence[Tensors]) -> list[Column]:
    """The inputs of a batch, in the order of their declaration, from requests whose keys are equal."""
    return [
        Column(
            [inputs[spec.name] for inputs in requests],
            spec.batch_axis,
            signature.padded_axes(spec) if signature.pads else (),
            signature.pads.get(spec.name),
        )
        for spec in signature.inputs
    ]


def split(array: Array, axis: int | None, rows: Sequence[int]) -> list[Array]:
    """Views of `array`, `rows[i]` long along `axis` and in order; the whole array for each where axis is None."""
    if axis is None:
        return [array] * len(rows)
    if axis == 0 and len(rows) == len(array):  # one row each, as nearly always
        return list(array[:, None])
    parts = []
    start = 0
    before = (slice(None),) * axis
    for count in rows:
        parts.append(array[(*before, slice(start, start + count))])
        start += count
    return parts


def scatter(
    signature: Signature, outputs: Tensors, rows: Sequence[int], lengths: Sequence[Lengths]
) -> list[dict[str, Array]]:
    """Each request's own part of a batch's outputs: its rows, and of a padded dimension its own length."""
    names = [spec.name for spec in signature.outputs]
    parts = [
        _cut(signature, spec, split(outputs[spec.name], spec.batch_axis, rows), lengths)
        for spec in signature.outputs
    ]
    return [dict(zip(names, own, strict=True)) for own in zip(*parts, strict=True)]


def _cut(
    signature: Signature, spec: TensorSpec, parts: list[Array], lengths: Sequence[Lengths]
) -> list[Array]:
    """`parts` of an output without what comes of padding."""
    axes = signature.padded_axes(spec) if signature.pads else ()
    if not axes:
        return parts
    order = [dim.name for dim in signature.variable]
    places = {axis: order.index(str(spec.dims[axis])) for axis in axes}
    whole = [slice(None)] * len(spec.dims)
    cut = []
    for part, own in zip(parts, lengths, strict=True):
        index = list(whole)
        for axis, place in places.items():
            index[axis] = slice(own[place])
        cut.append(part[tuple(index)])
    return cut


def _shape_without(array: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for axis, length in enumerate(array.shape) if axis not in axes)


def _contents(array: Array) -> Hashable:
    return (array.shape, tuple(array.ravel()) if array.dtype.kind == "O" else array.tobytes())
