"""Example inputs as their author has them: arrays, tensors or lists, by name or in order; here they become arrays by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from maas.dtypes import DTYPES, is_float
from maas.errors import InvalidRequest
from maas.tensors.check import is_finite
from maas.types import BATCH, Array, Signature, Tensors

_MADE_UP_ROWS = 3
_MADE_UP_LENGTH = 8


class Module(Protocol):
    """What is asked of a PyTorch module here."""

    @property
    def forward(self) -> Callable[..., Any]: ...


def name_examples(
    model: Module | type, example_inputs: Mapping[str, Any] | Sequence[Any] | None
) -> dict[str, Array]:
    """Example inputs as arrays by name: in the order of `forward`, since a module gets them by position."""
    if isinstance(example_inputs, Mapping):
        names = list(example_inputs) if isinstance(model, type) else _in_order(model, list(example_inputs))
        return {key: _array(key, example_inputs[key]) for key in names}
    if isinstance(model, type):
        raise InvalidRequest(
            "a class has no `forward` to name its inputs by; give example_inputs as a mapping"
        )
    if not isinstance(example_inputs, (list, tuple)):
        raise _no_examples(example_inputs)
    parameters, is_variadic = _parameters(model)
    if is_variadic and len(example_inputs) > len(parameters):
        raise InvalidRequest("forward does not name all its inputs; give example_inputs as a mapping")
    if len(example_inputs) > len(parameters):
        raise InvalidRequest(f"forward takes {len(parameters)} inputs: {', '.join(parameters)}")
    names = _in_order(model, list(parameters)[: len(example_inputs)])
    return {key: _array(key, value) for key, value in zip(names, example_inputs, strict=True)}


def name_by_order(
    names: Sequence[str], example_inputs: Mapping[str, Any] | Sequence[Any]
) -> dict[str, Array]:
    """Example inputs of a model whose inputs have these names, as arrays by name."""
    if isinstance(example_inputs, Mapping):
        given = dict(example_inputs)
    elif isinstance(example_inputs, (list, tuple)):
        if len(example_inputs) > len(names):
            raise InvalidRequest(f"the model takes {len(names)} inputs: {', '.join(names)}")
        given = dict(zip(names, example_inputs, strict=False))
    else:
        raise _no_examples(example_inputs)
    return {key: _array(key, value) for key, value in given.items()}


def make_up(signature: Signature) -> dict[str, Array]:
    """Inputs of a model that came without any, the same every time: numbers about zero, and whole ones 0 or 1, which are
    tokens, classes and masks of nearly every model. Raises `InvalidRequest` for text, which cannot be made up."""
    generator = np.random.default_rng(0)
    sizes = {BATCH: _MADE_UP_ROWS}
    for dim in signature.variable:
        limits = signature.limits_of(dim.name)
        sizes[dim.name] = max(limits.min, min(_MADE_UP_LENGTH, limits.max or _MADE_UP_LENGTH))
    made = {}
    for spec in signature.inputs:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.dims]
        if spec.dtype == "bytes":
            raise InvalidRequest(f"input {spec.name!r} is text, which cannot be made up: give example_inputs")
        drawn = (
            generator.standard_normal(shape)
            if is_float(spec.numpy_dtype)
            else generator.integers(0, 2, shape)
        )
        made[spec.name] = np.asarray(drawn).astype(spec.numpy_dtype)
    return made


def declare(arrays: Tensors) -> dict[str, str]:
    """The declarations that arrays suggest: `batch` first, then as they are."""
    declarations = {}
    for key, array in arrays.items():
        dtype = "bytes" if array.dtype.kind == "O" else array.dtype.name
        if dtype not in DTYPES:
            raise InvalidRequest(f"tensor {key!r} is {array.dtype}; known are {', '.join(DTYPES)}")
        dims = [BATCH, *map(str, array.shape[1:])] if array.ndim else []
        declarations[key] = f"{dtype}[{', '.join(dims)}]"
    return declarations


def check_examples(model: object, sample: Tensors, allow_non_finite: bool) -> None:
    """Raise `InvalidRequest` where the model could not be asked with these."""
    if not sample:
        raise InvalidRequest("example_inputs is empty; a model has at least one input")
    for key, array in sample.items():
        if array.dtype.kind == "O" and hasattr(model, "forward"):
            raise InvalidRequest(f"example input {key!r} holds text, which is no tensor of PyTorch")
        if not allow_non_finite and not is_finite(array):
            raise InvalidRequest(
                f"example input {key!r} holds NaN or infinity: say allow_non_finite=True if the model is to take them"
            )


def _no_examples(value: object) -> InvalidRequest:
    return InvalidRequest(
        f"example_inputs is a {type(value).__name__}; expected a mapping by name, or a list"
    )


def _in_order(model: Module, names: list[str]) -> list[str]:
    """`names` in the order of `forward`'s parameters, with those that go to its `*args` after them.

    Raises `InvalidRequest` where they cannot be passed by position, or name anything else.
    """
    parameters, is_variadic = _parameters(model)
    order = list(parameters)
    if is_variadic:
        return sorted(names, key=lambda name: order.index(name) if name in parameters else len(order))
    if unknown := [name for name in names if name not in parameters]:
        raise InvalidRequest(f"forward has no parameter {unknown[0]!r}; it takes {', '.join(order)}")
    last = max(map(order.index, names), default=-1)
    # Only trailing parameters may be left to their defaults: a gap before another would be filled by it.
    for place, (name, needed) in enumerate(parameters.items()):
        if name not in names and (needed or place < last):
            raise InvalidRequest(f"forward's parameter {name!r} is missing; it takes {', '.join(order)}")
    return sorted(names, key=order.index)


def _parameters(model: Module) -> tuple[dict[str, bool], bool]:
    """Those of `forward` that a position reaches, with whether each is needed; and whether it takes any others."""
    found = inspect.signature(model.forward).parameters.values()
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return (
        {each.name: each.default is each.empty for each in found if each.kind in by_position},
        any(each.kind in variadic for each in found),
    )


def _array(name: str, value: Any) -> Array:
    """`value`, an array, a tensor or nested lists, as an array of a kind that a model can take; text as bytes."""
    try:
        array = _of_tensor(name, value) if hasattr(value, "detach") else np.asarray(value)
        if array.dtype.kind in "USO":
            return _as_bytes(array)
    except (TypeError, ValueError, RuntimeError) as error:
        what = getattr(value, "dtype", type(value).__name__)
        raise InvalidRequest(
            f"example input {name!r} ({what}) is no tensor of a known dtype: {error}"
        ) from error
    return array


def _of_tensor(name: str, tensor: Any) -> Array:
    if str(tensor.dtype) != "torch.bfloat16":
        return np.asarray(tensor.detach().cpu())
    from maas.runtimes.torch.arrays import to_array

    return to_array(name, tensor)


def _as_bytes(array: Array) -> Array:
    """Elements that are `str` in UTF-8; raises ValueError for what is no text."""
    converted = np.empty(array.shape, dtype=object)
    for index, element in np.ndenumerate(array):
        if not isinstance(element, (str, bytes)):
            raise ValueError(f"it holds a {type(element).__name__}")
        converted[index] = element.encode() if isinstance(element, str) else bytes(element)
    return converted
