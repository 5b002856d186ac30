"""The watch: looks at the repository every so often for versions that came or went.

File systems that are mounted over a network tell nobody of changes, so looking is what works everywhere.
"""

from __future__ import annotations

import asyncio

import structlog

from maas.errors import BadArtifact
from maas.models.registry import Registry


class Watch:
    """Looks every `seconds`; never where that is 0."""

    def __init__(self, registry: Registry, seconds: float) -> None:
        self._registry = registry
        self._seconds = seconds
        self._changed = asyncio.Event()

    def set_interval(self, seconds: float) -> None:
        if seconds != self._seconds:
            self._seconds = seconds
            self._changed.set()

    async def serve(self) -> None:
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._seconds or None):
                    await self._changed.wait()
            except TimeoutError:
                self._look()

    def _look(self) -> None:
        try:
            self._registry.refresh()
        except BadArtifact as error:  # it may be mounted again by the next time
            structlog.get_logger("maas.server").error("repository_unreadable", reason=error.message)
