"""Parameters: what a request, or one of its tensors, says beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maas.api.terms import check_timeout
from maas.batching.priority import Priority
from maas.errors import InvalidRequest
from maas.types import clip

Parameters = Mapping[str, Any]

_NONE: Parameters = {}
_PRIORITIES = {1: Priority.INTERACTIVE, 2: Priority.STANDARD, 3: Priority.BULK}  # 0 asks for none of them
_NOT_SERVED = {"shared_memory_region": "shared memory", "classification": "classification"}


def parameters_of(owner: Mapping[str, Any], of: str) -> Parameters:
    """Raises `InvalidRequest` unless each is a string, a number or a boolean, as the protocol has them."""
    if "parameters" not in owner:
        return _NONE
    parameters = owner["parameters"]
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"`parameters`{of} must be an object")
    check_parameters(parameters, of)
    return parameters


def check_parameters(parameters: Parameters, of: str = "") -> None:
    """Raises `InvalidRequest` for what is nested or null, and for what asks for an extension that would change the answer and is
    not served."""
    for name, value in parameters.items():
        if not isinstance(value, (str, int, float)):
            raise InvalidRequest(f"parameter {clip(name)!r}{of} must be a string, a number or a boolean")
        if name in _NOT_SERVED:
            raise InvalidRequest(f"parameter {name!r}{of}: the {_NOT_SERVED[name]} extension is not served")


def flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} is {clip(str(value))!r}; it must be true or false")
    return value


def timeout_of(parameters: Parameters) -> float | None:
    """The parameter `timeout` of the protocol's scheduling extension, in microseconds, as seconds; 0 asks for none."""
    value = parameters.get("timeout", 0)
    if type(value) is int and value == 0:
        return None
    if isinstance(value, str):
        raise InvalidRequest(
            f"parameter 'timeout' is the text {clip(value)!r}; it must be a number of microseconds"
        )
    return check_timeout(value, "parameter 'timeout'", "microseconds") / 1e6


def priority_of(parameters: Parameters) -> Priority | None:
    """The parameter `priority` of the same extension: 1 is the highest, 0 the default."""
    value = parameters.get("priority", 0)
    if type(value) is not int or not 0 <= value <= len(_PRIORITIES):
        raise InvalidRequest(
            f"parameter 'priority' is {clip(str(value))!r}; it is 0 (default), 1 (interactive), 2 (standard) or 3 (bulk)"
        )
    return _PRIORITIES.get(value)
