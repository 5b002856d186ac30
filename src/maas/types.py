"""The words that every layer shares: model names, tensor declarations, signatures, answers.

A tensor is declared with named dimensions, `float32[batch, seq, 16]`: `batch` is the dimension along which
requests are stacked, any other name is a variable dimension, a number is fixed. `int64[batch, seq] = 1` is an input that
a request may leave out: each of its elements is 1 then. An object that exists here is valid; what is wrong with a
declaration is said by `InvalidRequest` when it is constructed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from maas.dtypes import DTYPES
from maas.elements import Scalar, element_of, read_element
from maas.errors import InvalidRequest

BATCH = "batch"
MAX_RANK = 8

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_TENSOR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_DIMENSION_NAME = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
_DECLARATION = re.compile(r"\s*([a-z0-9]+)\s*\[([^\[\]]*)\]\s*(?:=(.*))?", re.DOTALL)

Array = npt.NDArray[Any]
"""An array of any of the known dtypes."""

Tensors = Mapping[str, Array]
"""Arrays by tensor name, as they travel between a dialect, a batcher and a runner."""


def check_model_name(name: str) -> str:
    """Return `name` if it may name a model, else raise `InvalidRequest`."""
    if not MODEL_NAME.fullmatch(name):
        raise InvalidRequest(f"{clip(name)!r} is no model name: it must match {MODEL_NAME.pattern}")
    return name


def check_version_name(version: str) -> str:
    """Return `version` if it may name a version, else raise `InvalidRequest`."""
    if not VERSION_NAME.fullmatch(version):
        raise InvalidRequest(f"{clip(version)!r} is no version: it must match {VERSION_NAME.pattern}")
    return version


def version_order(version: str) -> tuple[int, ...] | None:
    """Sort key of a dotted-number version (`10` after `9`, `1.10` after `1.9`); None for any other name."""
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else None


def highest_version(versions: list[str]) -> str | None:
    """The version that is chosen when a caller names none; names that are no dotted numbers never are."""
    ordered = [(order, version) for version in versions if (order := version_order(version)) is not None]
    return max(ordered)[1] if ordered else None


def clip(text: str, limit: int = 80) -> str:
    """`text` short enough to stand in an error message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One declared input or output, such as `image: float32[batch, 8, 8]`; `default` is each element of an input that is left
    out, None where it may not be."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]
    default: Scalar | bytes | None = None
    batch_axis: int | None = field(init=False)
    numpy_dtype: np.dtype = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not _TENSOR_NAME.fullmatch(self.name):
            raise InvalidRequest(
                f"{clip(self.name)!r} is no tensor name: it must match {_TENSOR_NAME.pattern}"
            )
        if self.dtype not in DTYPES:
            raise InvalidRequest(
                f"tensor {self.name!r} declares dtype {clip(self.dtype)!r}; known are {', '.join(DTYPES)}"
            )
        if len(self.dims) > MAX_RANK:
            raise InvalidRequest(
                f"tensor {self.name!r} has {len(self.dims)} dimensions; at most {MAX_RANK} are allowed"
            )
        for dim in self.dims:
            _check_dimension(self.name, dim)
        if self.dims.count(BATCH) > 1:
            raise InvalidRequest(f"tensor {self.name!r} declares {BATCH!r} twice")
        object.__setattr__(self, "batch_axis", self.dims.index(BATCH) if BATCH in self.dims else None)
        object.__setattr__(self, "numpy_dtype", DTYPES[self.dtype])
        if self.default is not None:
            object.__setattr__(self, "default", _default_of(self))

    @classmethod
    def parse(cls, name: str, declaration: str) -> TensorSpec:
        """Read the notation `float32[batch, seq]`, or `float32[batch, seq] = 0.5`; `int64[]` is a scalar."""
        match = _DECLARATION.fullmatch(declaration)
        if match is None:
            raise InvalidRequest(
                f"tensor {clip(name)!r} is declared as {clip(declaration)!r}; expected DTYPE[DIM, …], e.g. float32[batch, 4]"
            )
        dtype, inner, default = match.groups()
        words = [word.strip() for word in inner.split(",")] if inner.strip() else []
        dims = tuple(int(word) if word.isdecimal() else word for word in words)
        if default is None:
            return cls(name, dtype, dims)
        element = read_element(default)
        if element is None:
            raise InvalidRequest(
                f"tensor {clip(name)!r} has the default {clip(default.strip())}; expected one element, as JSON has it"
            )
        return cls(name, dtype, dims, element)

    @property
    def declaration(self) -> str:
        """As `parse` reads it."""
        default = "" if self.default is None else f" = {json.dumps(self.plain_default)}"
        return f"{self.dtype}[{', '.join(map(str, self.dims))}]{default}"

    @property
    def plain_default(self) -> Scalar | None:
        """As JSON has it."""
        return self.default.decode() if isinstance(self.default, bytes) else self.default

    @property
    def sample_dims(self) -> tuple[int | str, ...]:
        """The dimensions of a single sample: those declared, without `batch`."""
        return tuple(dim for dim in self.dims if dim != BATCH)

    def __str__(self) -> str:
        return f"{self.name}: {self.declaration}"


def _check_dimension(tensor: str, dim: int | str) -> None:
    if isinstance(dim, int):
        if dim < 1:
            raise InvalidRequest(f"tensor {tensor!r} declares a dimension of {dim}; it must be at least 1")
    elif not _DIMENSION_NAME.fullmatch(dim):
        raise InvalidRequest(
            f"tensor {tensor!r} declares dimension {clip(dim)!r}; a name must match {_DIMENSION_NAME.pattern}"
        )


def _default_of(spec: TensorSpec) -> Scalar | bytes:
    default = spec.plain_default
    assert default is not None
    element = element_of(spec.numpy_dtype, default)
    if element is None:
        raise InvalidRequest(f"input {spec.name!r} is {spec.dtype}, and cannot have the default {default!r}")
    return element


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a variable dimension may be: `min` ≤ length ≤ `max` (None: no maximum is declared).

    With `pad` requests of different lengths may share a batch: the shorter are made as long as the longest with that
    element, by input or one for all inputs that carry the dimension. Without it they never do.
    """

    min: int = 1
    max: int | None = None
    pad: Scalar | Mapping[str, Scalar] | None = None

    def __post_init__(self) -> None:
        if self.min < 1 or (self.max is not None and self.max < self.min):
            raise InvalidRequest(f"bounds {self.min}…{self.max} are empty or below 1")
        if self.pad is not None and self.max is None:
            raise InvalidRequest("a dimension that is padded needs a `max`: up to there it is proven")


_UNBOUNDED = Bounds()

Lengths = tuple[int, ...]
"""Of a request's variable dimensions, in the order of its signature's."""


@dataclass(frozen=True, slots=True)
class VariableDim:
    """A variable dimension, an input and an axis at which its length is found, and whether it may be padded."""

    name: str
    tensor: str
    axis: int
    is_padded: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives, and how long its variable dimensions may be."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    names: frozenset[str] = field(init=False, repr=False)
    """Of the inputs."""
    required: frozenset[str] = field(init=False, repr=False)
    """Of the inputs that no request may leave out."""
    has_defaults: bool = field(init=False, repr=False)
    """Whether there are others."""
    batched: tuple[str, ...] = field(init=False, repr=False)
    """The names of the inputs that carry `batch`."""
    is_batched: bool = field(init=False, repr=False)
    """Whether requests may be stacked; otherwise the model runs them one by one."""
    has_bytes: bool = field(init=False, repr=False)
    """Whether an input holds strings, so that its size is not told by its shape."""
    stacks_all: bool = field(init=False, repr=False)
    """Whether every request stacks with every other."""
    variable: tuple[VariableDim, ...] = field(init=False, repr=False)
    """The variable dimensions in the order in which the inputs name them."""
    pads: Mapping[str, Scalar | bytes] = field(init=False, repr=False)
    """By input, what makes its padded dimensions longer."""
    accepted: dict[Hashable, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Names, dtypes and shapes of inputs that were checked and found right, with the rows they have; for who checks to
    remember."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(spec.name for spec in self.inputs))
        required = frozenset(spec.name for spec in self.inputs if spec.default is None)
        object.__setattr__(self, "required", required)
        object.__setattr__(self, "has_defaults", required != self.names)
        object.__setattr__(self, "has_bytes", any(spec.dtype == "bytes" for spec in self.inputs))
        batched = tuple(spec.name for spec in self.inputs if spec.batch_axis is not None)
        object.__setattr__(self, "batched", batched)
        object.__setattr__(self, "is_batched", bool(batched))
        object.__setattr__(self, "variable", tuple(_variable_dims(self.inputs, self.bounds)))
        is_fixed = all(dim.is_padded for dim in self.variable)
        object.__setattr__(self, "stacks_all", len(batched) == len(self.inputs) and is_fixed)
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            if not specs:
                raise InvalidRequest(f"a model needs at least one {kind}")
            names = [spec.name for spec in specs]
            if len(set(names)) < len(names):
                raise InvalidRequest(f"two {kind}s have the same name among {', '.join(names)}")
        if not self.is_batched and any(spec.batch_axis is not None for spec in self.outputs):
            raise InvalidRequest(f"an output declares {BATCH!r} but no input does")
        unknown = set(self.bounds) - {
            dim for spec in self.inputs for dim in spec.dims if isinstance(dim, str)
        }
        if unknown or BATCH in self.bounds:
            raise InvalidRequest(
                f"bounds for {sorted(unknown) or [BATCH]}, which are no variable dimensions of an input"
            )
        object.__setattr__(self, "pads", _pads(self.inputs, self.bounds))
        _check_defaults(self.inputs, self.outputs)

    @classmethod
    def parse(
        cls, inputs: Mapping[str, str], outputs: Mapping[str, str], bounds: Mapping[str, Bounds]
    ) -> Signature:
        """Read declarations by tensor name, in order."""
        return cls(
            tuple(TensorSpec.parse(name, text) for name, text in inputs.items()),
            tuple(TensorSpec.parse(name, text) for name, text in outputs.items()),
            bounds,
        )

    def lengths_of(self, inputs: Tensors) -> Lengths:
        """How long the variable dimensions are in `inputs`, which have been checked."""
        return tuple(inputs[dim.tensor].shape[dim.axis] for dim in self.variable)

    def padded_lengths_of(self, inputs: Tensors) -> dict[str, int]:
        """Those of them that may be padded, by name."""
        return {dim.name: inputs[dim.tensor].shape[dim.axis] for dim in self.variable if dim.is_padded}

    def padded_axes(self, spec: TensorSpec) -> tuple[int, ...]:
        """The axes of a tensor along which it is padded, or cut back."""
        padded = {dim.name for dim in self.variable if dim.is_padded}
        return tuple(axis for axis, dim in enumerate(spec.dims) if dim in padded)

    def limits_of(self, dim: str) -> Bounds:
        return self.bounds.get(dim, _UNBOUNDED)

    @property
    def most_elements(self) -> int | None:
        """Of a row: the product of the greatest lengths, 1 where none varies; None where one has no greatest."""
        lengths = [self.limits_of(dim.name).max for dim in self.variable]
        known = [length for length in lengths if length is not None]
        return math.prod(known) if len(known) == len(lengths) else None


def _variable_dims(specs: Sequence[TensorSpec], bounds: Mapping[str, Bounds]) -> list[VariableDim]:
    found: dict[str, VariableDim] = {}
    for spec in specs:
        for axis, dim in enumerate(spec.dims):
            if isinstance(dim, str) and dim != BATCH and dim not in found:
                found[dim] = VariableDim(dim, spec.name, axis, bounds.get(dim, _UNBOUNDED).pad is not None)
    return list(found.values())


def _check_defaults(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """What is left out is as long as the inputs that no request may leave out say."""
    told = {dim for spec in inputs if spec.default is None for dim in spec.dims}
    for spec in inputs:
        for dim in spec.dims:
            if spec.default is not None and isinstance(dim, str) and dim not in told:
                raise InvalidRequest(
                    f"input {spec.name!r} has a default, but no input without one has a dimension {dim!r} to say how long it is"
                )
    for spec in outputs:
        if spec.default is not None:
            raise InvalidRequest(f"output {spec.name!r} has a default, which is for inputs")


def _pads(specs: Sequence[TensorSpec], bounds: Mapping[str, Bounds]) -> dict[str, Scalar | bytes]:
    """One element for each input that carries a padded dimension."""
    pads: dict[str, Scalar | bytes] = {}
    for dim, limits in bounds.items():
        if limits.pad is None:
            continue
        carriers = [spec for spec in specs if dim in spec.dims]
        if isinstance(limits.pad, Mapping):
            _check_carriers(dim, limits.pad, carriers)
        for spec in carriers:
            if spec.batch_axis is None:
                raise InvalidRequest(
                    f"dimension {dim!r} is padded, but input {spec.name!r}, which carries it, has no {BATCH!r}"
                )
            pad = limits.pad[spec.name] if isinstance(limits.pad, Mapping) else limits.pad
            element = element_of(spec.numpy_dtype, pad)
            if element is None:
                raise InvalidRequest(
                    f"dimension {dim!r} cannot be padded with {pad!r}: input {spec.name!r} is {spec.dtype}"
                )
            if pads.setdefault(spec.name, element) != element:
                raise InvalidRequest(
                    f"input {spec.name!r} is padded with {element!r} along {dim!r}, but with {pads[spec.name]!r} "
                    "along another dimension"
                )
    return pads


def _check_carriers(dim: str, pads: Mapping[str, Scalar], carriers: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in carriers]
    for name in names:
        if name not in pads:
            raise InvalidRequest(f"dimension {dim!r} has no pad for input {name!r}, which carries it")
    for name in pads:
        if name not in names:
            raise InvalidRequest(
                f"dimension {dim!r} has a pad for {clip(name)!r}; it is carried by {', '.join(names)}"
            )


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one batch took when a version had loaded: `rows` of `elements` each, which is the product of the variable
    lengths of a row, 1 where there are none."""

    rows: int
    elements: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers agree when |actual - expected| ≤ absolute + relative × |expected|."""

    relative: float
    absolute: float


# How far answers may be from the golden ones unless a manifest says otherwise; what is not listed must be equal.
# float32: torch itself differs by some 2e-7 between batch sizes, and kernels differ more between machines.
DEFAULT_TOLERANCES: Mapping[str, Tolerance] = {
    "float16": Tolerance(relative=1e-2, absolute=1e-3),
    "bfloat16": Tolerance(relative=5e-2, absolute=1e-2),
    "float32": Tolerance(relative=1e-4, absolute=1e-5),
    "float64": Tolerance(relative=1e-9, absolute=1e-12),
}
