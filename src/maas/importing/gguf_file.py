"""A GGUF file: its keys, typed, and its tensors in float32.

The package `gguf` reads the file and dequantises. It believes the counts that a file states, so `_check_header` walks
the header first and holds each count against the bytes that are left.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gguf import GGUFReader, GGUFValueType
from gguf.quants import dequantize

from maas.errors import BadArtifact

MAX_KEYS = 4096
MAX_DIMENSIONS = 4

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of scalars, by type
_STRING, _ARRAY = GGUFValueType.STRING.value, GGUFValueType.ARRAY.value

T = TypeVar("T", str, int, float, bool)


class GgufFile:
    """An opened file. A key or tensor that is missing, or of another type, is a `BadArtifact`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_header(path)
        try:
            self._reader = GGUFReader(path)
        except (ValueError, KeyError, IndexError, OverflowError, TypeError) as error:
            raise BadArtifact(f"{path} is no whole GGUF file: {error}") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        if sum(int(tensor.n_bytes) for tensor in self._reader.tensors) > path.stat().st_size:
            raise BadArtifact(f"{path} has tensors that overlap")

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key. Without a default the file must have it."""
        found = self.find(key, kind)
        value = default if found is None else found
        if value is None:
            raise BadArtifact(f"{self.path} has no key {key!r}")
        return value

    def find(self, key: str, kind: type[T]) -> T | None:
        """The value of a key, or None where the file does not have it."""
        return self._typed(key, self._contents(key), kind) if key in self._reader.fields else None

    def list_of(self, key: str, kind: type[T]) -> list[T]:
        values = self._contents(key)
        if not isinstance(values, list):
            raise BadArtifact(f"{self.path}: {key!r} is no list")
        return [self._typed(key, value, kind) for value in values]

    @property
    def tensor_names(self) -> set[str]:
        return set(self._tensors)

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A tensor, dequantised; `shape` is what the keys say it must be, outermost dimension first."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise BadArtifact(f"{self.path} has no tensor {name!r}")
        found = tuple(int(extent) for extent in reversed(tensor.shape))
        if found != shape:
            raise BadArtifact(f"{self.path}: tensor {name!r} has shape {found}; its keys say {shape}")
        try:
            return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
        except NotImplementedError as error:
            kind = tensor.tensor_type.name
            raise BadArtifact(
                f"{self.path}: tensor {name!r} is in {kind}, which cannot be read here"
            ) from error

    def _contents(self, key: str) -> Any:
        field = self._reader.get_field(key)
        if field is None:
            raise BadArtifact(f"{self.path} has no key {key!r}")
        try:
            return field.contents()
        except UnicodeDecodeError as error:
            raise BadArtifact(f"{self.path}: {key!r} is not UTF-8") from error

    def _typed(self, key: str, value: Any, kind: type[T]) -> T:
        if type(value) is not kind:
            raise BadArtifact(f"{self.path}: {key!r} is not of type {kind.__name__}")
        return value


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise BadArtifact(f"{path} is not a GGUF file: it does not begin with {_MAGIC.decode()}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _Header(data).check()
            except (ValueError, struct.error) as error:
                raise BadArtifact(f"{path} is no whole GGUF file: {error}") from error


class _Header:
    """A walk over the header that reads lengths alone. `ValueError` where the file ends too early."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = len(_MAGIC)

    def check(self) -> None:
        (version,) = self._read("<I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version} is not read here")
        tensors, keys = self._read("<QQ")
        if keys > MAX_KEYS:
            raise ValueError(f"{keys} keys are over the limit of {MAX_KEYS}")
        for _ in self._times(keys, at_least=13):
            self._skip_string()
            self._skip_value(*self._read("<I"))
        for _ in self._times(tensors, at_least=32):
            self._skip_string()
            (dimensions,) = self._read("<I")
            if dimensions > MAX_DIMENSIONS:
                raise ValueError(f"{dimensions} dimensions are over the limit of {MAX_DIMENSIONS}")
            self._skip(8 * dimensions + 12)

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind == _ARRAY:
            of, count = self._read("<IQ")
            if of == _STRING:
                for _ in self._times(count, at_least=8):
                    self._skip_string()
            else:
                self._skip(count * self._size(of))
        else:
            self._skip(self._size(kind))

    def _size(self, kind: int) -> int:
        if kind not in _SIZES:
            raise ValueError(f"values of type {kind} are not read here")
        return _SIZES[kind]

    def _times(self, count: int, at_least: int) -> Iterator[int]:
        if count * at_least > len(self._data) - self._at:
            raise ValueError("it ends too early")
        return iter(range(count))

    def _skip_string(self) -> None:
        self._skip(*self._read("<Q"))

    def _skip(self, size: int) -> None:
        if size > len(self._data) - self._at:
            raise ValueError("it ends too early")
        self._at += size

    def _read(self, form: str) -> tuple[int, ...]:
        at = self._at
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self._data, at)
