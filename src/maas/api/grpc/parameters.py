"""Parameters as messages, of requests, of their tensors, and of loading a model."""

from __future__ import annotations

from collections.abc import Mapping

from maas.api.grpc.messages import InferParameter, ModelRepositoryParameter
from maas.api.oip.parameters import Parameters, check_parameters


def read_parameters(given: Mapping[str, InferParameter], of: str = "") -> Parameters:
    """As REST has them. Raises `InvalidRequest` for one without a value, and for what is not served."""
    if not given:
        return {}
    parameters = {name: _value(parameter) for name, parameter in given.items()}
    check_parameters(parameters, of)
    return parameters


def read_load_parameters(given: Mapping[str, ModelRepositoryParameter]) -> Parameters:
    """The same; a file's bytes are a text here, for no file is taken."""
    values = {name: _value(parameter) for name, parameter in given.items()}
    return {name: "" if isinstance(value, bytes) else value for name, value in values.items()}


def _value(parameter: InferParameter | ModelRepositoryParameter) -> object:
    choice = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, choice) if choice else None
