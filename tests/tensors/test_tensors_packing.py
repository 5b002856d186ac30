"""Tensors in a slab: what is written is read again, and a place that does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.values import values_of

from maas.dtypes import DTYPES
from maas.tensors.packing import ALIGNMENT, Column, Place, plan, read, write
from maas.types import Array

OBJECT = np.dtype(object)


def texts(*elements: bytes) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def packed(*columns: Column) -> tuple[memoryview, list[Place]]:
    places, nbytes = plan(columns)
    buffer = memoryview(bytearray(nbytes))
    for place, column in zip(places, columns, strict=True):
        write(buffer, place, column)
    return buffer, places


def equal(one: Array, other: Array) -> bool:
    if one.dtype == OBJECT:
        return one.shape == other.shape and one.ravel().tolist() == other.ravel().tolist()
    return one.shape == other.shape and one.tobytes() == other.tobytes()


@st.composite
def columns(draw: st.DrawFn) -> Column:
    """One tensor of a batch: up to four parts of one dtype whose shapes agree but along the axis."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    lengths = [shape[axis]] if axis is not None else [0]
    lengths += draw(st.lists(st.integers(0, 3), max_size=3)) if axis is not None else []
    parts = []
    for length in lengths:
        own = [length if place == axis else size for place, size in enumerate(shape)]
        elements = st.binary(max_size=9) if dtype == OBJECT else values_of(dtype)
        array = draw(hnp.arrays(dtype, tuple(own), elements=elements, fill=st.nothing()))
        parts.append(array)
    return Column(parts, axis)


@settings(deadline=None)
@given(st.lists(columns(), max_size=4))
def test_what_is_written_is_read_again(batch: list[Column]) -> None:
    """Every tensor of a batch, of any type and shape, is read as its requests' arrays stacked along its axis."""
    buffer, places = packed(*batch)
    for column, place in zip(batch, places, strict=True):
        expected = column.parts[0] if column.axis is None else np.concatenate(column.parts, axis=column.axis)
        assert place.shape == column.shape == expected.shape
        assert equal(read(buffer, place, expected.dtype), expected)


@settings(deadline=None)
@given(st.lists(columns(), max_size=5))
def test_places_are_aligned_and_do_not_overlap(batch: list[Column]) -> None:
    """Each tensor starts at a multiple of the alignment behind the end of the one before, within what is reserved."""
    places, nbytes = plan(batch)
    end = 0
    for place in places:
        assert place.offset % ALIGNMENT == 0
        assert end <= place.offset < end + ALIGNMENT
        end = place.offset + place.nbytes
    assert end == nbytes


def test_numbers_are_read_without_a_copy() -> None:
    """A tensor of numbers is a view of the slab; bytes are objects of their own."""
    buffer, (place,) = packed(Column([np.arange(4, dtype=np.int32)], 0))
    view = read(buffer, place, np.dtype(np.int32))
    buffer[:4] = np.int32(9).tobytes()
    assert view.tolist() == [9, 1, 2, 3]


def test_an_input_without_batch_is_written_once() -> None:
    """Where there is no axis to stack along, the first request's array stands for all."""
    column = Column([np.array([1.5, 2.5]), np.array([1.5, 2.5])], None)
    buffer, (place,) = packed(column)
    assert place == Place((2,), 0, 16)
    assert read(buffer, place, np.dtype(np.float64)).tolist() == [1.5, 2.5]


def test_empty_and_zero_bytes_keep_their_length() -> None:
    """Empty elements, trailing zero bytes and elements that look like offsets come back as they were."""
    elements = texts(b"", b"a\0\0", b"\0" * 8, b"")
    buffer, (place,) = packed(Column([elements], 0))
    assert read(buffer, place, OBJECT).tolist() == elements.tolist()


@pytest.mark.parametrize(
    "place",
    [
        Place((4,), 0, 15),
        Place((4,), 0, 17),
        Place((5,), 0, 20),
        Place((4,), 4, 16),
        Place((4,), -4, 16),
        Place((-4,), 0, -16),
        Place((-2, -2), 0, 16),
        Place((1 << 40,), 0, 1 << 42),
    ],
    ids=str,
)
def test_a_place_of_numbers_outside_the_slab_is_refused(place: Place) -> None:
    """A place whose size is not its shape's, or that leaves the slab, is refused whatever it claims."""
    with pytest.raises(ValueError, match=r".+"):
        read(memoryview(bytearray(16)), place, np.dtype(np.float32))


def offsets(*numbers: int) -> bytes:
    return np.array(numbers, np.int64).tobytes()


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (offsets(0, 1, 2) + b"ab", Place((2,), 0, 27)),
        (offsets(0, 1, 2) + b"ab", Place((3,), 0, 26)),
        (offsets(0, 1, 2) + b"ab", Place((2,), 8, 26)),
        (offsets(0, 1, 2) + b"ab", Place((-1,), 0, 26)),
        (offsets(0, 1, 2) + b"ab", Place((-2, -1), 0, 26)),
        (offsets(0, 1, 2) + b"ab", Place((2,), 0, 25)),
        (offsets(0, 1, 3) + b"ab", Place((2,), 0, 26)),
        (offsets(1, 1, 2) + b"ab", Place((2,), 0, 26)),
        (offsets(0, 2, 1) + b"ab", Place((2,), 0, 26)),
        (offsets(0, -1, 2) + b"ab", Place((2,), 0, 26)),
        (offsets(0, 2**63 - 1, -(2**63)) + b"ab", Place((2,), 0, 26)),
        (b"", Place((0,), 0, 0)),
        (b"", Place((1 << 40,), 0, 0)),
    ],
    ids=repr,
)
def test_broken_offsets_of_bytes_are_refused(data: bytes, place: Place) -> None:
    """Offsets that do not rise, do not begin at 0 or lead out of their place are refused: no byte leaks."""
    with pytest.raises(ValueError, match=r".+"):
        read(memoryview(data), place, OBJECT)


@settings(deadline=None)
@given(
    st.binary(max_size=80),
    st.lists(st.integers(-2, 4), max_size=3),
    st.integers(-8, 80),
    st.integers(-8, 90),
    st.sampled_from(["float32", "uint8", "bytes"]),
)
def test_any_place_is_read_within_its_bounds_or_refused(
    data: bytes, shape: list[int], offset: int, nbytes: int, dtype: str
) -> None:
    """Whatever a place and a slab hold, reading gives the place's shape from the place's own bytes, or `ValueError`."""
    try:
        array: Any = read(memoryview(data), Place(tuple(shape), offset, nbytes), DTYPES[dtype])
    except ValueError:
        return
    assert list(array.shape) == shape
    assert offset >= 0
    assert offset + nbytes <= len(data)
    held = sum(map(len, array.ravel())) if dtype == "bytes" else array.nbytes
    assert held <= nbytes


@st.composite
def ragged_columns(draw: st.DrawFn) -> Column:
    """Parts that differ along the batch axis and along padded ones."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    rank = draw(st.integers(2, 3))
    axis, *others = draw(st.permutations(range(rank)))
    padded = tuple(sorted(others[: draw(st.integers(1, len(others)))]))
    elements = st.binary(max_size=5) if dtype == OBJECT else values_of(dtype)
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        shape = [draw(st.integers(0, 4)) if place in (axis, *padded) else 2 for place in range(rank)]
        parts.append(draw(hnp.arrays(dtype, tuple(shape), elements=elements, fill=st.nothing())))
    return Column(parts, axis, padded, b"pad" if dtype == OBJECT else 1)


def padded_by_numpy(column: Column) -> Array:
    """The reference: an array full of padding, into which each part is laid."""
    assert column.axis is not None
    whole = np.full(column.shape, column.pad, column.parts[0].dtype)
    start = 0
    for part in column.parts:
        corner = [slice(0, length) for length in part.shape]
        corner[column.axis] = slice(start, start + part.shape[column.axis])
        whole[tuple(corner)] = part
        start += part.shape[column.axis]
    return whole


@settings(deadline=None)
@given(st.lists(ragged_columns(), min_size=1, max_size=3))
def test_shorter_parts_are_padded_while_they_are_written(batch: list[Column]) -> None:
    """In a slab and as an array, a ragged column is what NumPy makes of it, whatever lay there before."""
    places, nbytes = plan(batch)
    buffer = memoryview(bytearray(b"\xff" * nbytes))
    for place, column in zip(places, batch, strict=True):
        write(buffer, place, column)
        expected = padded_by_numpy(column)
        assert equal(read(buffer, place, column.parts[0].dtype), expected)
        assert equal(column.stacked(), expected)
