"""Engines that run models, one file or package for each, chosen by name and imported only when asked for.

Nothing here is imported by the gateway's process except `contract` and this table.
"""

from __future__ import annotations

from importlib import import_module

from maas.errors import BadArtifact
from maas.runtimes.contract import Runtime

_MODULES = {
    "onnxruntime": "maas.runtimes.onnxruntime",
    "openvino": "maas.runtimes.openvino",
    "python": "maas.runtimes.python",
    "torch": "maas.runtimes.torch",
}

# What a fork server imports ahead, so that a model process of the engine is there in milliseconds. Only what
# may be forked: no engine may have run an operation, nor the `python` runtime's class have met our thread limits.
PRELOADS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("maas.runtimes.onnxruntime",),
    "openvino": ("maas.runtimes.openvino",),
    "python": (),
    # The second is what opens an exported program: 1.4 s, and 90 MB that processes share only where it was there before them.
    "torch": ("maas.runtimes.torch.runner", "torch.export.pt2_archive"),
}


def runtime(name: str) -> Runtime:
    """The engine called `name`; `BadArtifact` where there is none of that name or its package is not installed."""
    if name not in _MODULES:
        raise BadArtifact(f"runtime {name!r} is unknown; known are {', '.join(_MODULES)}")
    try:
        module = import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        raise BadArtifact(
            f"runtime {name!r} needs the package {error.name!r}, which is not installed"
        ) from error
    found: Runtime = module.RUNTIME
    return found
