"""Parameters: what a request, or one of its tensors, says beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maas.api.terms import check_timeout
from maas.errors import InvalidRequest
from maas.types import clip


def parameters_of(owner: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"`parameters`{of} must be an object")
    return parameters


def flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} is {clip(str(value))!r}; it must be true or false")
    return value


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """The parameter `timeout` of the protocol's scheduling extension, in microseconds, as seconds."""
    if "timeout" not in parameters:
        return None
    return check_timeout(parameters["timeout"], "parameter 'timeout'", "microseconds") / 1e6
