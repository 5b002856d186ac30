"""How tensors lie in a slab of shared memory.

Each tensor starts at a multiple of 64 bytes, in C order. A tensor of `bytes` elements is stored as n + 1 int64
offsets followed by the data they cut up. `write` is the one copy on the way in: it stacks the requests' arrays
straight into the slab. `read` gives a view, so a reader that outlives the batch copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from maas.elements import Scalar
from maas.types import Array

ALIGNMENT = 64  # bytes: a cache line, and what vectorised kernels like best

Buffer = memoryview


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies in a slab: `nbytes` bytes from `offset` on."""

    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Column:
    """One tensor of a batch: the requests' arrays, and the axis along which they are stacked.

    With `axis` None there is one array, or all are equal, and the first stands for all. Along `padded` axes the arrays may
    be of different lengths: each is made as long as the longest with the element `pad`.
    """

    parts: Sequence[Array]
    axis: int | None
    padded: tuple[int, ...] = ()
    pad: Scalar | bytes | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.parts[0].shape
        if self.axis is None:
            return shape
        lengths = list(shape)
        lengths[self.axis] = sum(part.shape[self.axis] for part in self.parts)
        for axis in self.padded:
            lengths[axis] = max(part.shape[axis] for part in self.parts)
        return tuple(lengths)

    @property
    def is_ragged(self) -> bool:
        """Whether an array is shorter than another, so that it has to be padded."""
        first = self.parts[0].shape
        return any(part.shape[axis] != first[axis] for axis in self.padded for part in self.parts)

    def stacked(self) -> Array:
        if self.axis is None:
            return self.parts[0]
        if not self.is_ragged:
            return np.concatenate(self.parts, axis=self.axis)
        array = np.empty(self.shape, self.parts[0].dtype)
        _stack_padded(array, self)
        return array


def nbytes_of(array: Array) -> int:
    """Bytes of the elements themselves."""
    return sum(map(len, array.flat)) if array.dtype.hasobject else array.nbytes


def plan(columns: Sequence[Column]) -> tuple[list[Place], int]:
    """Places for `columns` one behind the other, and how many bytes they need in all."""
    places = []
    end = 0
    for column in columns:
        shape = column.shape
        dtype = column.parts[0].dtype
        nbytes = _bytes_needed(column) if dtype.kind == "O" else prod(shape) * dtype.itemsize
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        places.append(Place(shape, offset, nbytes))
        end = offset + nbytes
    return places, end


def write(buffer: Buffer, place: Place, column: Column) -> None:
    """Stack `column` into its place."""
    dtype = column.parts[0].dtype
    if dtype.kind == "O":
        _write_bytes(buffer, place, column.stacked())
    elif column.axis is None:
        np.copyto(_view(buffer, place, dtype), column.parts[0])
    elif column.is_ragged:
        _stack_padded(_view(buffer, place, dtype), column)
    else:
        np.concatenate(column.parts, axis=column.axis, out=_view(buffer, place, dtype))


def read(buffer: Buffer, place: Place, dtype: np.dtype[Any]) -> Array:
    """The tensor at `place`: a view of the slab, or new objects where the elements are bytes.

    Raises `ValueError` where the place does not lie within the buffer.
    """
    if dtype.kind == "O":
        return _read_bytes(buffer, place)
    if place.nbytes != prod(place.shape) * dtype.itemsize:
        raise ValueError(f"{place} does not hold {dtype}")
    return _view(buffer, place, dtype)


def _stack_padded(target: Array, column: Column) -> None:
    """Copy the arrays one behind the other, and fill what is left beside each: every element is written once."""
    assert column.axis is not None
    start = 0
    for part in column.parts:
        end = start + part.shape[column.axis]
        index: list[slice] = [slice(None)] * target.ndim
        index[column.axis] = slice(start, end)
        for axis in column.padded:
            length = part.shape[axis]
            if length < target.shape[axis]:
                index[axis] = slice(length, None)
                target[tuple(index)] = column.pad
                index[axis] = slice(length)
        target[tuple(index)] = part
        start = end


def _view(buffer: Buffer, place: Place, dtype: np.dtype[Any]) -> Array:
    if place.offset < 0:  # numpy (2.4) would read what lies before the buffer
        raise ValueError(f"{place} does not lie within {len(buffer)} bytes")
    try:
        return np.ndarray(place.shape, dtype, buffer, place.offset)
    except TypeError as error:  # numpy's word for «buffer is too small»
        raise ValueError(str(error)) from None


def _bytes_needed(column: Column) -> int:
    parts = column.parts if column.axis is not None else column.parts[:1]
    elements = prod(column.shape)
    padding = elements - sum(part.size for part in parts)
    pad = column.pad if isinstance(column.pad, bytes) else b""
    return 8 * (elements + 1) + sum(map(nbytes_of, parts)) + padding * len(pad)


def _write_bytes(buffer: Buffer, place: Place, array: Array) -> None:
    elements = list(array.flat)
    offsets = np.zeros(len(elements) + 1, np.int64)
    np.cumsum([len(element) for element in elements], out=offsets[1:])
    head = place.offset + offsets.nbytes
    buffer[place.offset : head] = offsets.tobytes()
    buffer[head : place.offset + place.nbytes] = b"".join(elements)


def _read_bytes(buffer: Buffer, place: Place) -> Array:
    count = prod(place.shape)
    end = place.offset + place.nbytes
    if min((0, *place.shape)) < 0 or end > len(buffer):
        raise ValueError(f"{place} does not lie within {len(buffer)} bytes")
    offsets = _view(buffer, Place((count + 1,), place.offset, 8 * (count + 1)), np.dtype(np.int64))
    head = place.offset + offsets.nbytes
    # Compared, not subtracted: a difference of int64 can wrap around.
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any() or head + int(offsets[-1]) > end:
        raise ValueError(f"{place} holds broken offsets")
    array = np.empty(count, dtype=object)
    bounds = offsets.tolist()
    for index in range(count):
        array[index] = bytes(buffer[head + bounds[index] : head + bounds[index + 1]])
    return array.reshape(place.shape)
