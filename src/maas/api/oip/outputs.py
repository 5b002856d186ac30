"""Which outputs a request asks for, in which order, and which of them raw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maas.api.oip.parameters import flag, parameters_of
from maas.errors import InvalidRequest
from maas.types import Signature, clip


def outputs_of(wanted: object) -> list[str]:
    """The names in a request's `outputs`, if it has any."""
    return [] if wanted is None else [name for name, _ in entries_of(wanted, "outputs")]


def choose_outputs(signature: Signature, wanted: Sequence[str]) -> tuple[str, ...]:
    """All outputs, or those asked for, each once and in the order asked."""
    known = tuple(spec.name for spec in signature.outputs)
    names = tuple(dict.fromkeys(wanted))
    for name in names:
        if name not in known:
            raise InvalidRequest(f"unknown output {clip(name)!r}; the model gives {', '.join(known)}")
    return names or known


def choose_raw(outputs: tuple[str, ...], wanted: object, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of `outputs` to be given as raw bytes: all, or none, but for those that say it themselves."""
    all_raw = flag(parameters, "binary_data_output", False)
    chosen = dict.fromkeys(outputs, all_raw)
    if wanted is not None:
        for name, tensor in entries_of(wanted, "outputs"):
            parameters = parameters_of(tensor, f" of output {clip(name)!r}")
            chosen[name] = flag(parameters, "binary_data", all_raw)
    return tuple(name for name in outputs if chosen[name])


def entries_of(tensors: object, key: str) -> list[tuple[str, dict[str, Any]]]:
    """A request's `inputs` or `outputs` with their names, as they stand."""
    if not isinstance(tensors, list):
        raise InvalidRequest(f"`{key}` must be a list of tensors")
    entries = []
    for index, tensor in enumerate(tensors):
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest(f"{key}[{index}] must be an object with a `name`")
        entries.append((name, tensor))
    return entries
