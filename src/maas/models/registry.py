"""The registry: which versions are live, and which of them a name means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from maas.config import Configuration, ModelOptions
from maas.errors import BadArtifact, InvalidRequest, MaasError, ModelNotFound
from maas.models.broken import BrokenVersion, missing
from maas.models.live import LiveOptions, LiveVersion, VersionState, highest_of
from maas.models.repository import Repository, StoredVersion
from maas.models.slowdown import slowdown
from maas.models.successors import Successors
from maas.models.wanted import Asked, Policy, pinned, policy_of
from maas.types import check_model_name, highest_version


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
        make_live: Callable[[StoredVersion, LiveOptions], LiveVersion],
    ) -> None:
        self.broken: list[BrokenVersion] = []
        self._has_started = False
        self._repository = repository
        self._configuration = configuration
        self._pinned = pinned(configuration)
        self._make_live = make_live
        self._models: dict[str, dict[str, LiveVersion]] = {}
        self._successors = Successors(self._make)
        # Those that nobody finds any more, but who answer yet, included.
        self._serving: set[LiveVersion] = set()
        self._asked = Asked()
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
        live, unloaded = self._models.get(name, {}), self._asked.unloaded(name)
        return bool(unloaded) and not live if version is None else version in unloaded and version not in live

    def policy_of(self, name: str) -> Policy:
        """Which versions of the model are served unless one is loaded or unloaded by name."""
        return policy_of(self._options(name))

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
        if old is None or old.state is not VersionState.READY:
            return ""
        return slowdown(fresh, old, options.max_slowdown)

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
        self._pinned = pinned(configuration)
        try:
            self.refresh()
        finally:
            for live in self.versions():
                live.limit_bodies(configuration.limits.body_bytes)
                if fresh := self._successors.renew(live, LiveOptions.of(configuration, live.name)):
                    self._succeed(fresh)

    def load(self, name: str, version: str | None = None) -> LiveVersion:
        """Serve the version, or what is configured of the model, or where that is nothing its highest version; what failed is
        tried again. Returns the version that is meant by `name`, or `name` and `version`, when all of them are ready.

        Raises `ModelNotFound` or `BadArtifact` where the repository does not have it.
        """
        if version is None and (wanted := self._forgive(name)):
            brought = {each: self._bring(self._repository.read(name, each)) for each in wanted}
            meant = self._pinned.get(name) or highest_version(wanted) or wanted[0]
            return brought.get(meant, brought[wanted[0]])
        stored = self._read(name, version)
        self._asked.load(name, stored.manifest.version)
        return self._bring(stored)

    def unload(self, name: str, version: str | None = None) -> list[LiveVersion]:
        """Serve the version, or the model, no more, until it is loaded by name. Raises `ModelNotFound` where it is not live."""
        live = self._models.get(name, {})
        gone = list(live.values()) if version is None else [live[version]] if version in live else []
        if not gone:
            raise ModelNotFound(self._missing(name, version).message)
        for each in gone:
            self._asked.unload(name, each.version)
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

    def _forgive(self, name: str) -> list[str]:
        """The versions of the model that are configured and stored, those that were unloaded included."""
        stored = self._stored(name)
        self._asked.forgive(name)
        return [version for version in self._wanted(name) if version in stored]

    def _bring(self, stored: StoredVersion) -> LiveVersion:
        """The version, which is started unless it is live and has not failed."""
        name, version = stored.manifest.name, stored.manifest.version
        live = self._models.get(name, {}).get(version)
        if live is not None and live.state is not VersionState.FAILED:
            return live
        if live is not None:
            self._retire(live)
        return self._start(stored)

    def _read(self, name: str, version: str | None) -> StoredVersion:
        self._stored(name)
        return self._repository.read(name, version)

    def _stored(self, name: str) -> list[str]:
        """What is no name is nobody's: to a caller it is not found, like any other that nothing has."""
        try:
            check_model_name(name)
        except InvalidRequest as error:
            raise ModelNotFound(error.message) from None
        return self._repository.versions(name)

    def _note_start(self) -> None:
        if not self._has_started:
            self._has_started = all(live.state is not VersionState.LOADING for live in self.versions())

    async def _place(self, fresh: LiveVersion) -> None:
        """When `fresh` has loaded, give it its place, and retire the versions that were only waiting for that."""
        await fresh.settled.wait()
        self._note_start()
        if self._successors.includes(fresh):
            self._succeed(fresh)
        with suppress(
            BadArtifact
        ):  # it cannot be read just now; the next look at the repository retires them
            self._retire_unwanted(fresh.name)

    def _succeed(self, fresh: LiveVersion) -> None:
        """The successor takes the place of its predecessor, or says why not."""
        old = self._models[fresh.name][fresh.version]
        if self._successors.settle(fresh, old):
            self._models[fresh.name][fresh.version] = fresh
            old.begin_drain()

    # ── what is wanted ───────────────────────────────────────────────────────────────────────────────────────

    def _refresh_model(self, name: str) -> None:
        try:
            stored = self._repository.versions(name)
        except BadArtifact as error:
            self.broken.append(BrokenVersion(name, "", error.message))
            return
        wanted = self._wanted(name)
        live = self._models.get(name, {})
        is_named = name in self._configuration.models and self._options(name).versions != ()
        if is_named and not wanted and not live:
            reason = "the configuration names it, but there is no version of it"
            self.broken.append(BrokenVersion(name, "", reason))
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
        live = self._make_live(stored, LiveOptions.of(self._configuration, stored.manifest.name))
        self._fresh.append(live)
        self._changed.set()
        return live

    def _retire(self, live: LiveVersion) -> None:
        """Nobody finds it any more; what it has accepted it answers, and then its `serve` returns."""
        versions = self._models[live.name]
        if versions.get(live.version) is live:
            del versions[live.version]
            self._successors.give_up(live)
        if not versions:
            del self._models[live.name]
        live.begin_drain()

    def _options(self, name: str) -> ModelOptions:
        return self._configuration.options_of(name)

    def _wanted(self, name: str) -> list[str]:
        return self._asked.wanted(name, self._options(name), self._repository.versions(name))

    def _default_of(self, name: str) -> LiveVersion | None:
        versions = self._models.get(name)
        if not versions:
            return None
        if name in self._pinned:
            return versions.get(self._pinned[name])
        if len(versions) == 1:  # as it nearly always is, for each request
            (only,) = versions.values()
            return only if only.order is not None else None
        return highest_of(versions.values())

    def _missing(self, name: str, version: str | None) -> MaasError:
        return missing(self.broken, name, version, list(self._models.get(name, {})))
