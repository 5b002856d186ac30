"""The paths of inference: one table for the router, and for those who look at a path before it is routed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.routing import compile_path

from maas.api import native, v1
from maas.api.oip import infer
from maas.api.operation import Operation

INFERENCE: tuple[tuple[str, Operation[Any]], ...] = (
    ("/predict/{model}", native.PREDICT),
    ("/predict/{model}/versions/{version}", native.PREDICT),
    ("/v2/models/{model}/infer", infer.INFER),
    ("/v2/models/{model}/versions/{version}/infer", infer.INFER),
    ("/v1/models/{model}:predict", v1.V1_PREDICT),
    ("/v1/models/{model}/versions/{version}:predict", v1.V1_PREDICT),
)

_PATTERNS = tuple((compile_path(path)[0], operation) for path, operation in INFERENCE)


@dataclass(frozen=True, slots=True)
class Target:
    """What the path of an inference request asks for; `version` is None where the path names none."""

    path: str
    operation: Operation[Any]
    model: str
    version: str | None


def find_target(path: str) -> Target | None:
    """None where the path is not one of inference."""
    for pattern, operation in _PATTERNS:
        if match := pattern.fullmatch(path):
            names = match.groupdict()
            return Target(path, operation, names["model"], names.get("version"))
    return None
