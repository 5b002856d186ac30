"""The registry: which versions are live, and which of them a name means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maas.config import Configuration, ModelOptions
from maas.errors import BadArtifact, InvalidRequest, MaasError, ModelNotFound, ModelNotReady
from maas.models.live import LiveVersion, VersionState
from maas.models.repository import Repository, StoredVersion
from maas.types import CurvePoint, check_model_name, clip, highest_version

_LEAST_SLOWDOWN = 0.01  # seconds; what is less is noise, or nobody's trouble


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


class Registry:
    """Versions by model name, as the repository and the configuration want them.

    `refresh` looks again: what is new is loaded beside the old, which goes on answering until the new one is ready, and is
    drained then if it is not wanted any more. A new version that fails leaves the old one in its place. `reconfigure` does
    the same to a version whose options have changed: a successor, which is the same version made anew, is loaded beside it.
    """

    def __init__(
        self,
        repository: Repository,
        configuration: Configuration,
        make_live: Callable[[StoredVersion, Configuration], LiveVersion],
    ) -> None:
        self.broken: list[BrokenVersion] = []
        self._has_started = False
        self._repository = repository
        self._configuration = configuration
        self._pinned = _pinned(configuration)
        self._make_live = make_live
        self._models: dict[str, dict[str, LiveVersion]] = {}
        self._successors: dict[
            str, LiveVersion
        ] = {}  # by label; each beside one that it will take the place of
        self._serving: set[LiveVersion] = (
            set()
        )  # those that nobody finds any more, but who answer yet, included
        self._asked_for: dict[str, set[str]] = {}
        self._unloaded: dict[str, set[str]] = {}
        self._fresh: list[LiveVersion] = []
        self._changed = asyncio.Event()
        self._is_draining = False
        self.refresh()

    def resolve(self, name: str, version: str | None = None) -> LiveVersion:
        """The live version that `name`, or `name` and `version`, mean.

        Where no version is named and none is pinned, it is the highest that is ready: one that failed, or is yet to
        load, does not stand in the way of an older one. Raises `ModelNotFound` where there is none, `ModelNotReady` where
        there is one that cannot be read.
        """
        found = self._default_of(name) if version is None else self._models.get(name, {}).get(version)
        if found is None:
            raise self._missing(name, version)
        return found

    def versions(self) -> list[LiveVersion]:
        """All live versions, by name and then in the order of the repository."""
        return [live for versions in self._models.values() for live in versions.values()]

    def versions_of(self, name: str) -> list[LiveVersion]:
        return list(self._models.get(name, {}).values())

    def stored(self) -> list[tuple[str, str]]:
        """Name and version of all that lies in the repository, served or not. Reads folders."""
        found = []
        for name in self._repository.models():
            with suppress(BadArtifact):  # a folder that cannot be read is among the broken
                found += [(name, version) for version in self._repository.versions(name)]
        return found

    def is_unloaded(self, name: str, version: str | None = None) -> bool:
        """Whether nothing answers by `name`, or `name` and `version`, because it was unloaded."""
        live, unloaded = self._models.get(name, {}), self._unloaded.get(name, set())
        return bool(unloaded) and not live if version is None else version in unloaded and version not in live

    def policy_of(self, name: str) -> Literal["all", "highest"] | tuple[str, ...]:
        """Which versions of the model are served unless one is loaded or unloaded by name: as configured, but where it is the
        highest and another is the default, that one alone."""
        options = self._options(name)
        is_pinned = options.versions == "highest" and options.default is not None
        return (options.default,) if is_pinned and options.default else options.versions

    def is_default(self, live: LiveVersion) -> bool:
        return self._default_of(live.name) is live

    @property
    def has_started(self) -> bool:
        """Whether there was a moment at which no version was loading; what is loaded later is loaded beside."""
        self._note_start()
        return self._has_started

    async def settle(self) -> None:
        """Return when every version has loaded, or failed to."""
        for live in self.versions():
            await live.settled.wait()

    def objection(self, fresh: LiveVersion) -> str:
        """Why `fresh`, which has just loaded, may not take over from the version that answers in its place, if that is so.

        At the start nobody is replaced: versions load in any order, and what is wanted serves.
        """
        options = self._options(fresh.name)
        old = self._default_of(fresh.name)
        if not self._has_started or options.default is not None or not options.max_slowdown:
            return ""
        if old is None or old.state is not VersionState.READY or not _is_higher(fresh, old):
            return ""
        row = fresh.curve[0]
        before = _seconds_of_row(old.curve, row.elements)
        if row.seconds <= max(before * options.max_slowdown, before + _LEAST_SLOWDOWN):
            return ""
        return (
            f"one row takes it {row.seconds * 1e3:.3g} ms, over {options.max_slowdown:g} times the "
            f"{before * 1e3:.3g} ms of version {old.version}, which goes on serving (max_slowdown)"
        )

    # ── what changes while it serves ─────────────────────────────────────────────────────────────────────────

    def refresh(self) -> None:
        """Start what the repository has and the configuration wants and is not live, and retire what they no longer do."""
        self.broken = []
        for name in sorted({*self._repository.models(), *self._configuration.models, *self._models}):
            self._refresh_model(name)

    def reconfigure(self, configuration: Configuration) -> None:
        """Serve as `configuration` wants it from now on, and look at the repository again.

        Raises `BadArtifact` where that cannot be read; the configuration holds nevertheless.
        """
        self._configuration = configuration
        self._pinned = _pinned(configuration)
        try:
            self.refresh()
        finally:
            for live in self.versions():
                live.limit_bodies(configuration.limits.body_bytes)
                self._renew(live)

    def load(self, name: str, version: str | None = None) -> LiveVersion:
        """Serve the version, or the highest stored; one that failed is tried again.

        Raises `ModelNotFound` or `BadArtifact` where the repository does not have it.
        """
        stored = self._read(name, version)
        version = stored.manifest.version
        self._unloaded.get(name, set()).discard(version)
        live = self._models.get(name, {}).get(version)
        if live is not None and live.state is VersionState.FAILED:
            self._retire(live)
            live = None
        if live is None:
            self._asked_for.setdefault(name, set()).add(version)
            live = self._start(stored)
        return live

    def unload(self, name: str, version: str | None = None) -> list[LiveVersion]:
        """Serve the version, or the model, no more, until it is loaded by name. Raises `ModelNotFound` where it is not live."""
        live = self._models.get(name, {})
        gone = list(live.values()) if version is None else [live[version]] if version in live else []
        if not gone:
            raise ModelNotFound(self._missing(name, version).message)
        for each in gone:
            self._unloaded.setdefault(name, set()).add(each.version)
            self._asked_for.get(name, set()).discard(each.version)
            self._retire(each)
        return gone

    async def serve(self) -> None:
        """Run every version until all are drained."""
        async with asyncio.TaskGroup() as group:
            while not self._is_draining:
                fresh, self._fresh = self._fresh, []
                for live in fresh:
                    self._serving.add(live)
                    group.create_task(self._serve(live))
                    group.create_task(self._place(live))
                self._changed.clear()
                await self._changed.wait()

    async def drain(self) -> None:
        """Return when every version has answered what it accepted."""
        self._is_draining = True
        self._changed.set()
        for live in self._fresh:  # they will not begin
            live.begin_drain()
        await asyncio.gather(*(live.drain() for live in self._serving))

    async def _serve(self, live: LiveVersion) -> None:
        try:
            await live.serve()
        finally:
            self._serving.discard(live)

    def _read(self, name: str, version: str | None) -> StoredVersion:
        """What is no name is nobody's: to a caller it is not found, like any other that nothing has."""
        try:
            check_model_name(name)
        except InvalidRequest as error:
            raise ModelNotFound(error.message) from None
        return self._repository.read(name, version)

    def _note_start(self) -> None:
        if not self._has_started:
            self._has_started = all(live.state is not VersionState.LOADING for live in self.versions())

    async def _place(self, fresh: LiveVersion) -> None:
        """When `fresh` has loaded, give it its place, and retire the versions that were only waiting for that."""
        await fresh.settled.wait()
        self._note_start()
        if self._successors.get(fresh.label) is fresh:
            self._succeed(fresh)
        with suppress(
            BadArtifact
        ):  # the repository cannot be read just now; the next look at it retires them
            self._retire_unwanted(fresh.name)

    # ── the same version, made anew ──────────────────────────────────────────────────────────────────────────

    def _renew(self, live: LiveVersion) -> None:
        """Load a successor of `live` where the configuration is not the one that it was made for. One that is loading for
        a configuration of the past is given up."""
        successor = self._successors.get(live.label)
        if live.is_made_for(self._configuration):
            self._give_up_successor(live)
            live.reason = "" if live.state is VersionState.READY else live.reason
        elif successor is None or not successor.is_made_for(self._configuration):
            self._give_up_successor(live)
            try:
                self._successors[live.label] = fresh = self._make(live.stored)
            except BadArtifact as error:
                live.reason = _keeps_former_options(error.message)
            else:
                if live.state is not VersionState.READY:
                    self._succeed(fresh)

    def _succeed(self, fresh: LiveVersion) -> None:
        """The successor takes the place of its predecessor, or says why not."""
        del self._successors[fresh.label]
        old = self._models[fresh.name][fresh.version]
        if fresh.state is VersionState.READY or old.state is not VersionState.READY:
            self._models[fresh.name][fresh.version] = fresh
            old.begin_drain()
        else:
            old.reason = _keeps_former_options(fresh.reason)
            fresh.begin_drain()

    def _give_up_successor(self, live: LiveVersion) -> None:
        successor = self._successors.pop(live.label, None)
        if successor is not None:
            successor.begin_drain()

    # ── what is wanted ───────────────────────────────────────────────────────────────────────────────────────

    def _refresh_model(self, name: str) -> None:
        try:
            stored = self._repository.versions(name)
        except BadArtifact as error:
            self.broken.append(BrokenVersion(name, "", error.message))
            return
        wanted = self._wanted(name)
        live = self._models.get(name, {})
        if (
            name in self._configuration.models
            and not wanted
            and not live
            and self._options(name).versions != ()
        ):
            self.broken.append(
                BrokenVersion(name, "", "the configuration names it, but there is no version of it")
            )
        for version in wanted:
            if version not in live:
                self._try_to_start(name, version)
        for each in list(live.values()):
            if each.version not in stored:
                self._retire(each)
        self._retire_unwanted(name)

    def _retire_unwanted(self, name: str) -> None:
        """Retire what is not wanted any more, when what is wanted in its place has loaded. Where all of that has failed,
        the old ones stay."""
        wanted = self._wanted(name)
        live = self._models.get(name, {})
        states = {live[version].state for version in wanted if version in live}
        if VersionState.LOADING not in states and (VersionState.READY in states or not wanted):
            for each in list(live.values()):
                if each.version not in wanted:
                    self._retire(each)

    def _try_to_start(self, name: str, version: str) -> None:
        try:
            self._start(self._repository.read(name, version))
        except (BadArtifact, ModelNotFound) as error:
            is_missing = isinstance(error, ModelNotFound)
            self.broken.append(BrokenVersion(name, version, error.message, is_missing))

    def _start(self, stored: StoredVersion) -> LiveVersion:
        live = self._make(stored)
        self._models.setdefault(live.name, {})[live.version] = live
        return live

    def _make(self, stored: StoredVersion) -> LiveVersion:
        live = self._make_live(stored, self._configuration)
        self._fresh.append(live)
        self._changed.set()
        return live

    def _retire(self, live: LiveVersion) -> None:
        """Nobody finds it any more; what it has accepted it answers, and then its `serve` returns."""
        versions = self._models[live.name]
        if versions.get(live.version) is live:
            del versions[live.version]
            self._give_up_successor(live)
        if not versions:
            del self._models[live.name]
        live.begin_drain()

    def _options(self, name: str) -> ModelOptions:
        return self._configuration.options_of(name)

    def _wanted(self, name: str) -> list[str]:
        stored = self._repository.versions(name)
        chosen = _choose(stored, self._options(name))
        asked = sorted(self._asked_for.get(name, set()).intersection(stored))
        return [v for v in dict.fromkeys([*chosen, *asked]) if v not in self._unloaded.get(name, set())]

    def _default_of(self, name: str) -> LiveVersion | None:
        versions = self._models.get(name)
        if not versions:
            return None
        if name in self._pinned:
            return versions.get(self._pinned[name])
        if len(versions) == 1:  # as it nearly always is, for each request
            (only,) = versions.values()
            return only if only.order is not None else None
        return max(
            (live for live in versions.values() if live.order is not None),
            key=lambda live: (-_DISTANCE_FROM_READY[live.state], live.order),
            default=None,
        )

    def _missing(self, name: str, version: str | None) -> MaasError:
        for broken in self.broken:
            if broken.name == name and version in (None, broken.version):
                kind = ModelNotFound if broken.is_missing else ModelNotReady
                return kind(f"model {broken.label!r} cannot be served: {broken.reason}")
        known = ", ".join(self._models.get(name, {}))
        if not known:
            return ModelNotFound(f"there is no model {clip(name)!r}")
        wanted = "default version" if version is None else f"version {clip(version)!r}"
        return ModelNotFound(f"model {name!r} has no {wanted}; it has {known}")


def _seconds_of_row(curve: Sequence[CurvePoint], elements: int) -> float:
    """What one row of so many elements takes: in line between lengths that were measured, beyond the longest in proportion, and
    as long as the shortest where it is shorter yet."""
    rows = sorted((point for point in curve if point.rows == 1), key=lambda point: point.elements)
    longest = rows[-1]
    if elements > longest.elements:
        return longest.seconds * elements / longest.elements
    lengths, seconds = [row.elements for row in rows], [row.seconds for row in rows]
    return float(np.interp(elements, lengths, seconds))


def _pinned(configuration: Configuration) -> dict[str, str]:
    """The default version by the name of a model, where the configuration names one; looked up for each request."""
    models = configuration.models.items()
    return {name: options.default for name, options in models if options.default is not None}


def _is_higher(one: LiveVersion, other: LiveVersion) -> bool:
    return one.order is not None and other.order is not None and one.order > other.order


_DISTANCE_FROM_READY = {
    VersionState.READY: 0,
    VersionState.LOADING: 1,
    VersionState.DRAINING: 2,
    VersionState.FAILED: 3,
}


def _keeps_former_options(problem: str) -> str:
    return f"it keeps its former options; with the new ones: {problem}"


def _choose(stored: Sequence[str], options: ModelOptions) -> list[str]:
    """The versions to serve: those that are listed, all that are stored, or the highest; and the default in any case."""
    if isinstance(options.versions, tuple):
        return list(dict.fromkeys(options.versions))
    if options.versions == "all":
        return list(dict.fromkeys([*stored, *filter(None, [options.default])]))
    highest = options.default or highest_version(list(stored))
    return [highest] if highest is not None else []
