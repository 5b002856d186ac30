"""Which versions are to be served: as configured, but for those that were loaded or unloaded by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from maas.config import Configuration, ModelOptions
from maas.types import highest_version

Policy = Literal["all", "highest"] | tuple[str, ...]
"""All that are stored, the highest of them, or those that are listed."""


class Asked:
    """What was asked for by name since the server started; the last word on a version holds."""

    def __init__(self) -> None:
        self._loaded: dict[str, set[str]] = {}
        self._unloaded: dict[str, set[str]] = {}

    def load(self, name: str, version: str) -> None:
        """Serve it, whatever is configured."""
        self._unloaded.get(name, set()).discard(version)
        self._loaded.setdefault(name, set()).add(version)

    def forgive(self, name: str) -> None:
        """What was unloaded of the model may be served again if it is configured."""
        self._unloaded.pop(name, None)

    def unload(self, name: str, version: str) -> None:
        self._unloaded.setdefault(name, set()).add(version)
        self._loaded.get(name, set()).discard(version)

    def unloaded(self, name: str) -> Collection[str]:
        """The versions of the model that are to be served no more."""
        return self._unloaded.get(name, set())

    def wanted(self, name: str, options: ModelOptions, stored: Sequence[str]) -> list[str]:
        """The versions of the model to be served, of those that are `stored` and those that are listed."""
        loaded = sorted(self._loaded.get(name, set()).intersection(stored))
        unloaded = self.unloaded(name)
        chosen = dict.fromkeys([*_choose(options, stored), *loaded])
        return [version for version in chosen if version not in unloaded]


def pinned(configuration: Configuration) -> dict[str, str]:
    """The default version by the name of a model, where the configuration names one; looked up for each request."""
    models = configuration.models.items()
    return {name: options.default for name, options in models if options.default is not None}


def policy_of(options: ModelOptions) -> Policy:
    """Where the highest is to be served and another is the default, that one alone is."""
    if options.versions == "highest" and options.default is not None:
        return (options.default,)
    return options.versions


def _choose(options: ModelOptions, stored: Sequence[str]) -> list[str]:
    """As configured; and the default in any case."""
    policy = policy_of(options)
    if isinstance(policy, tuple):
        return list(dict.fromkeys(policy))
    if policy == "all":
        return list(dict.fromkeys([*stored, *filter(None, [options.default])]))
    highest = highest_version(list(stored))
    return [highest] if highest is not None else []
