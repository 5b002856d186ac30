"""Versions that cannot be served, and what a caller who asks for one that is not there is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from maas.errors import MaasError, ModelNotFound, ModelNotReady
from maas.types import clip


@dataclass(frozen=True, slots=True)
class BrokenVersion:
    """A version that was to be served and cannot be read; without a version, the model as a whole."""

    name: str
    version: str
    reason: str
    is_missing: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}" if self.version else self.name


def missing(
    broken: Iterable[BrokenVersion], name: str, version: str | None, known: Sequence[str]
) -> MaasError:
    """Why `version`, or the default one, is not among the `known` versions of the model."""
    for each in broken:
        if each.name == name and version in (None, each.version):
            kind = ModelNotFound if each.is_missing else ModelNotReady
            return kind(f"model {each.label!r} cannot be served: {each.reason}")
    if not known:
        return ModelNotFound(f"there is no model {clip(name)!r}")
    wanted = "default version" if version is None else f"version {clip(version)!r}"
    return ModelNotFound(f"model {name!r} has no {wanted}; it has {', '.join(known)}")
