"""What a model is asked with: tensors of its declared shapes, made up or from a file, in requests of so many rows."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maas.client.wire import decode
from maas.dtypes import DTYPES, is_float
from maas.errors import InvalidRequest
from maas.types import BATCH, Array, Bounds, Tensors

_LONGEST = 128  # of a variable dimension whose maximum is not declared
_TEXT = 12  # characters


@dataclass(frozen=True, slots=True)
class Field:
    """An input as a server declares it; a dimension is a length or a name, `batch` among them."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]

    @property
    def batch_axis(self) -> int | None:
        return self.dims.index(BATCH) if BATCH in self.dims else None


@dataclass(frozen=True, slots=True)
class Form:
    """What a model takes."""

    fields: tuple[Field, ...]
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    @property
    def is_batched(self) -> bool:
        return any(each.batch_axis is not None for each in self.fields)


def generate(form: Form, count: int, rows: int, seed: int, like: Tensors | None = None) -> Iterator[Tensors]:
    """`count` requests of `rows` rows. A variable dimension has one length in a request, uniform within its bounds.

    Floats are normal; integers and text are such as `like` has, since an index or a word may not be just any.
    """
    generator = np.random.default_rng(seed)
    variable = sorted({dim for each in form.fields for dim in each.dims if isinstance(dim, str)} - {BATCH})
    for _ in range(count):
        lengths = {dim: _length(form.bounds.get(dim, Bounds()), generator) for dim in variable}
        lengths[BATCH] = rows
        yield {each.name: _values(each, lengths, generator, like) for each in form.fields}


def _length(bounds: Bounds, generator: np.random.Generator) -> int:
    most = bounds.max if bounds.max is not None else max(bounds.min, _LONGEST)
    return int(generator.integers(bounds.min, most, endpoint=True))


def _values(
    each: Field, lengths: Mapping[str, int], generator: np.random.Generator, like: Tensors | None
) -> Array:
    shape = tuple(dim if isinstance(dim, int) else lengths[dim] for dim in each.dims)
    if is_float(DTYPES[each.dtype]):
        return generator.standard_normal(shape).astype(DTYPES[each.dtype])
    known = like[each.name] if like is not None else None
    if known is not None and known.size:
        return generator.choice(known.reshape(-1), shape)
    if each.dtype == "bytes":
        return _text(shape, generator)
    return generator.integers(0, 1, shape, endpoint=True).astype(each.dtype)


def _text(shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    letters = np.frombuffer(string.ascii_lowercase.encode(), np.uint8)
    array = np.empty(shape, object)
    for index in np.ndindex(shape):
        array[index] = generator.choice(letters, _TEXT).tobytes()
    return array


def in_rows(form: Form, samples: Iterable[Tensors], rows: int) -> Iterator[Tensors]:
    """The rows of `samples`, in order, in requests of `rows` rows each; the rows of a sample repeat where they do not suffice.

    Raises `InvalidRequest` for a model without a batch dimension that is to take more than one row.
    """
    if form.is_batched:
        return (part for sample in samples for part in _parts(form, sample, rows))
    if rows > 1:
        raise InvalidRequest("the model has no batch dimension: a request is one row")
    return iter(samples)


def _parts(form: Form, sample: Tensors, rows: int) -> Iterator[Tensors]:
    axes = {each.name: each.batch_axis for each in form.fields}
    extent = next(sample[name].shape[axis] for name, axis in axes.items() if axis is not None)
    for start in range(0, extent, rows):
        places = np.arange(start, start + rows) % extent
        yield {
            name: array if (axis := axes[name]) is None else np.take(array, places, axis)
            for name, array in sample.items()
        }


def read_file(path: Path, form: Form) -> list[Tensors]:
    """Samples from `path`: JSON lines, each an object of inputs by name; or `.npz` or `.safetensors`, an array for each input.

    Raises `InvalidRequest`, naming the line or the input that is wrong.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return [_checked(form, dict(stored), path.name)]
        if path.suffix == ".safetensors":
            import ml_dtypes  # noqa: F401  # or BF16 is not understood
            from safetensors.numpy import load_file

            return [_checked(form, load_file(path), path.name)]
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        return [parse_example(form, decode(line), f"{path.name}:{at}") for at, line in enumerate(lines, 1)]
    except InvalidRequest:
        raise
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each format has errors of its own, safetensors one that is nothing else
        raise InvalidRequest(f"{path} does not hold inputs: {error}") from error


def parse_example(form: Form, values: object, where: str) -> Tensors:
    """An object of nested lists by input name as arrays with their batch dimension."""
    if not isinstance(values, dict):
        raise InvalidRequest(f"{where} is no object of inputs by name")
    return _checked(form, values, where)


def _checked(form: Form, values: Mapping[str, Any], where: str) -> Tensors:
    if missing := [each.name for each in form.fields if each.name not in values]:
        raise InvalidRequest(f"{where} lacks input {missing[0]!r}; the model takes {_names(form)}")
    if unknown := sorted(set(values) - {each.name for each in form.fields}):
        raise InvalidRequest(f"{where} has {unknown[0]!r}; the model takes {_names(form)}")
    return {each.name: _array(each, values[each.name], where) for each in form.fields}


def _array(each: Field, value: Any, where: str) -> Array:
    try:
        array = np.asarray(value)
        array = _as_bytes(array) if each.dtype == "bytes" else array.astype(DTYPES[each.dtype])
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{where}: input {each.name!r} is no {each.dtype}: {error}") from error
    axis = each.batch_axis
    if axis is not None and array.ndim == len(each.dims) - 1:
        array = np.expand_dims(array, axis)
    if array.ndim != len(each.dims) or not array.size:
        raise InvalidRequest(
            f"{where}: input {each.name!r} has shape {list(array.shape)}; expected {list(each.dims)}"
        )
    return array


def _as_bytes(array: Array) -> Array:
    converted = np.empty(array.shape, object)
    for index, element in np.ndenumerate(array):
        converted[index] = element if isinstance(element, bytes) else str(element).encode()
    return converted


def _names(form: Form) -> str:
    return ", ".join(each.name for each in form.fields)
