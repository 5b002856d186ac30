"""Versions that are made anew because their options have changed, until they can take the place of those that answer."""

from __future__ import annotations

from collections.abc import Callable

from maas.errors import BadArtifact
from maas.models.live import LiveOptions, LiveVersion, VersionState
from maas.models.repository import StoredVersion


class Successors:
    """Each beside one live version, of which it is the same with other options."""

    def __init__(self, make: Callable[[StoredVersion], LiveVersion]) -> None:
        self._make = make
        self.by_label: dict[str, LiveVersion] = {}

    def renew(self, live: LiveVersion, options: LiveOptions) -> LiveVersion | None:
        """Load a successor of `live` where `options` are not those that it was made for. One that is loading for options of the
        past is given up. Returns it where it has nothing to wait for, since `live` is not ready."""
        successor = self.by_label.get(live.label)
        if live.is_made_for(options):
            self.give_up(live)
            live.reason = "" if live.state is VersionState.READY else live.reason
        elif successor is None or not successor.is_made_for(options):
            self.give_up(live)
            try:
                self.by_label[live.label] = fresh = self._make(live.stored)
            except BadArtifact as error:
                live.reason = _keeps_former_options(error.message)
            else:
                return fresh if live.state is not VersionState.READY else None
        return None

    def includes(self, fresh: LiveVersion) -> bool:
        return self.by_label.get(fresh.label) is fresh

    def settle(self, fresh: LiveVersion, old: LiveVersion) -> bool:
        """Whether `fresh`, which waits no more, is to take the place of `old`; where it is not, it ends here, and `old` says why."""
        del self.by_label[fresh.label]
        if fresh.state is VersionState.READY or old.state is not VersionState.READY:
            return True
        old.reason = _keeps_former_options(fresh.reason)
        fresh.begin_drain()
        return False

    def give_up(self, live: LiveVersion) -> None:
        """There will be no successor of `live`."""
        successor = self.by_label.pop(live.label, None)
        if successor is not None:
            successor.begin_drain()


def _keeps_former_options(problem: str) -> str:
    return f"it keeps its former options; with the new ones: {problem}"
