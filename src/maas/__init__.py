"""Model as a Service: train, publish, serve and call models from one Python package.

The names are loaded when they are first used: a caller who wants the client gets no server, and a server no engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maas.client import AsyncClient, Client, Prediction
    from maas.errors import MaasError
    from maas.publisher import publish
    from maas.types import Bounds, Tolerance

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Bounds", "Client", "MaasError", "Prediction", "Tolerance", "publish"]

_HOMES = {
    "AsyncClient": "maas.client",
    "Bounds": "maas.types",
    "Client": "maas.client",
    "MaasError": "maas.errors",
    "Prediction": "maas.client",
    "Tolerance": "maas.types",
    "publish": "maas.publisher",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'maas' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if name != "publish" or (error.name or "").partition(".")[0] == "maas":
            raise
        raise ImportError(
            f"maas.publish needs the package {error.name!r}: pip install 'maas[torch]', or 'maas[server]' for a class"
        ) from error
