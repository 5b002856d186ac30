"""The repository: what is in it, and loading and unloading, as the reference server's clients ask for it.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maas.api.oip.parameters import check_parameters, flag
from maas.errors import InvalidRequest, ModelNotReady
from maas.models.live import LiveVersion, VersionState
from maas.models.registry import Registry
from maas.types import clip

_STATES = {
    VersionState.LOADING: "LOADING",
    VersionState.READY: "READY",
    VersionState.FAILED: "UNAVAILABLE",
    VersionState.DRAINING: "UNLOADING",
}


def repository_index(registry: Registry, *, only_ready: bool = False) -> list[dict[str, str]]:
    """Every version that is served, is broken, or lies in the repository and is not served, by name."""
    served = [entry_of(live) for live in registry.versions()]
    if only_ready:
        return [entry for entry in served if entry["state"] == "READY"]
    broken = [_unavailable(each.name, each.version, each.reason) for each in registry.broken]
    found = {(entry["name"], entry["version"]): entry for entry in (*broken, *served)}
    for name, version in registry.stored():
        found.setdefault((name, version), _unavailable(name, version, "unloaded"))
    return [found[key] for key in sorted(found)]


async def load(registry: Registry, name: str, parameters: Mapping[str, Any]) -> LiveVersion:
    """Serve what is configured of the model; returns when all of that has loaded, with the version that answers to its name.

    Raises `ModelNotReady` where that one fails to load, and what `Registry.load` does.
    """
    check_parameters(parameters)
    for parameter in parameters:
        if parameter == "config" or parameter.startswith("file:"):
            raise InvalidRequest(
                f"parameter {clip(parameter)!r} is not served: a model is loaded as it was published"
            )
    live = registry.load(name)
    for each in registry.versions_of(name):
        await each.settled.wait()
    if live.state is VersionState.FAILED:
        raise ModelNotReady(f"model {live.label!r} failed to load: {live.reason}")
    return live


def unload(registry: Registry, name: str, parameters: Mapping[str, Any]) -> list[LiveVersion]:
    """Drain all versions of the model. Others do not depend on it, so `unload_dependents` has nothing to do."""
    check_parameters(parameters)
    flag(parameters, "unload_dependents", False)
    return registry.unload(name)


def entry_of(live: LiveVersion) -> dict[str, str]:
    return {"name": live.name, "version": live.version, "state": _STATES[live.state], "reason": live.reason}


def _unavailable(name: str, version: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason}
