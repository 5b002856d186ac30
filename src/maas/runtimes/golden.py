"""Golden samples: requests with the answers that a version must give.

They are stored beside the model as safetensors under `SAMPLE.input.NAME` and `SAMPLE.output.NAME`; a tensor of
`bytes` elements as it is packed in a slab (uint8), with its shape beside it under `….shape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from maas.errors import BadArtifact, MaasError, ModelFailed
from maas.tensors.check import check_inputs, check_outputs, is_finite
from maas.tensors.nested import encode
from maas.tensors.packing import Column, Place, plan, read, write
from maas.tensors.stack import split
from maas.types import Array, Signature, Tensors, TensorSpec

GOLDEN = "golden.safetensors"

_MAX_EXAMPLE_ELEMENTS = 2048
_MAX_EXAMPLE_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """One request and its expected answer."""

    inputs: Tensors
    outputs: Tensors


def save_golden(directory: Path, samples: Sequence[GoldenSample]) -> None:
    """Write `samples` to `directory`."""
    tensors: dict[str, Array] = {}
    for index, sample in enumerate(samples):
        for kind, arrays in (("input", sample.inputs), ("output", sample.outputs)):
            for name, array in arrays.items():
                tensors.update(_to_stored(f"{index}.{kind}.{name}", array))
    save_file(tensors, directory / GOLDEN)


def load_golden(
    directory: Path, signature: Signature, *, allow_non_finite: bool = False
) -> list[GoldenSample]:
    """The samples of the version in `directory`; `BadArtifact` where they are missing or not its signature's.

    NaN and infinities are refused unless the manifest allows them: no caller could send, or would get, such a sample.
    """
    try:
        stored = load_file(directory / GOLDEN)
        count = 1 + max(int(key.partition(".")[0]) for key in stored)
        samples = [
            GoldenSample(
                {
                    spec.name: _from_stored(stored, f"{index}.input.{spec.name}", spec)
                    for spec in signature.inputs
                },
                {
                    spec.name: _from_stored(stored, f"{index}.output.{spec.name}", spec)
                    for spec in signature.outputs
                },
            )
            for index in range(count)
        ]
        for sample in samples:
            check_outputs(signature, sample.outputs, check_inputs(signature, sample.inputs))
    except FileNotFoundError as error:
        raise BadArtifact(f"{GOLDEN} is missing: give --example FILE, or write it") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, MaasError) as error:
        raise BadArtifact(
            f"{GOLDEN} does not hold samples of this model: {_reason(error)}", trace=str(error)
        ) from error
    if not allow_non_finite:
        for sample in samples:
            _check_finite(sample)
    return samples


def rows_of(signature: Signature, sample: GoldenSample) -> list[GoldenSample]:
    """The sample's rows as samples of their own, in order."""
    count = check_inputs(signature, sample.inputs)
    inputs = _split_all(signature.inputs, sample.inputs, count)
    outputs = _split_all(signature.outputs, sample.outputs, count)
    return [GoldenSample(i, o) for i, o in zip(inputs, outputs, strict=True)]


def example_of(signature: Signature, sample: GoldenSample) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sample's first row as nested lists without the batch dimension; nothing where it is too large to read or
    JSON cannot carry it."""
    if signature.is_batched:
        sample = rows_of(signature, sample)[0]
    arrays = (*sample.inputs.values(), *sample.outputs.values())
    if sum(array.size for array in arrays) > _MAX_EXAMPLE_ELEMENTS or not all(map(is_finite, arrays)):
        return {}, {}
    try:
        return _as_lists(signature.inputs, sample.inputs), _as_lists(signature.outputs, sample.outputs)
    except ModelFailed:  # bytes that are no text
        return {}, {}


def _reason(error: Exception) -> str:
    """In words that hold no path: those of our own, of the format's reader, or the kind of the error."""
    if isinstance(error, MaasError):
        return error.message
    if isinstance(error, KeyError):
        return f"tensor {error} is missing"
    if isinstance(error, SafetensorError):
        return str(error)
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _check_finite(sample: GoldenSample) -> None:
    for kind, arrays in (("input", sample.inputs), ("output", sample.outputs)):
        for name, array in arrays.items():
            if not is_finite(array):
                what = "NaN" if np.isnan(array).any() else "an infinity"
                raise BadArtifact(
                    f"the golden sample's {kind} {name!r} holds {what}: say `allow_non_finite: true` if that is meant"
                )


def _split_all(specs: Iterable[TensorSpec], arrays: Tensors, rows: int) -> list[dict[str, Array]]:
    parts = {spec.name: split(arrays[spec.name], spec.batch_axis, [1] * rows) for spec in specs}
    return [{name: part[row] for name, part in parts.items()} for row in range(rows)]


def _to_stored(key: str, array: Array) -> dict[str, Array]:
    if array.dtype.kind != "O":
        return {key: np.ascontiguousarray(array).reshape(array.shape)}
    column = Column([array], None)
    (place,), nbytes = plan([column])
    packed = np.empty(nbytes, np.uint8)
    write(packed.data, place, column)
    return {key: packed, f"{key}.shape": np.array(array.shape, np.int64)}


def _from_stored(stored: Mapping[str, Array], key: str, spec: TensorSpec) -> Array:
    if spec.dtype != "bytes":
        return stored[key]
    packed = stored[key]
    place = Place(tuple(stored[f"{key}.shape"].tolist()), 0, packed.nbytes)
    return read(packed.data, place, spec.numpy_dtype)


def _as_lists(specs: Iterable[TensorSpec], arrays: Tensors) -> dict[str, Any]:
    """As a caller would see them in JSON: a float32 with its own digits, not those of the double it becomes in Python."""
    lists = {}
    for spec in specs:
        array = arrays[spec.name]
        single = array if spec.batch_axis is None else np.moveaxis(array, spec.batch_axis, 0)[0, ...]
        lists[spec.name] = encode(single, spec.name)
    text = orjson.dumps(lists, option=orjson.OPT_SERIALIZE_NUMPY)
    plain: dict[str, Any] = orjson.loads(text) if len(text) <= _MAX_EXAMPLE_BYTES else {}
    return plain
