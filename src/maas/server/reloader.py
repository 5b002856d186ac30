"""The reloader: at SIGHUP the configuration is read again, and taken whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from maas.config import Configuration, changed_keys
from maas.errors import BadArtifact, ConfigurationError
from maas.server.parts import Parts, access_policy, most_connections
from maas.telemetry.logs import set_level


class Reloader:
    """`configuration` is the one that holds."""

    def __init__(self, configuration: Configuration, read: Callable[[], Configuration], parts: Parts) -> None:
        self.configuration = configuration
        self._read = read
        self._parts = parts
        self._log = structlog.get_logger("maas.server")

    async def serve(self, asked: asyncio.Event) -> None:
        """Reload whenever `asked` is set."""
        while True:
            await asked.wait()
            asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the configuration and serve by it. What is no configuration, or needs a restart, is logged, and the old one
        holds in every part."""
        try:
            new = await asyncio.to_thread(self._read)
            changed = changed_keys(self.configuration, new)
            _check_reloadable(changed)
        except ConfigurationError as error:
            self._log.error("reload_rejected", problems=error.problems)
            return
        self.configuration = new
        try:
            apply(new, self._parts)
        except BadArtifact as error:
            self._log.error("repository_unreadable", reason=error.message)
        self._log.info("reloaded", changed=list(changed))


def apply(configuration: Configuration, parts: Parts) -> None:
    """Everything that changes in a running server, in one place. Raises `BadArtifact` as the very last where the repository
    cannot be read."""
    server, limits = configuration.server, configuration.limits
    set_level(configuration.logging.level)
    parts.recorder.policy = access_policy(configuration)
    parts.edge.limit(server, body_bytes=limits.body_bytes, max_connections=most_connections(server))
    parts.door.most_requests = limits.requests
    parts.permits.resize(limits.running_batches)
    parts.backlog.max_requests = limits.waiting_requests
    parts.backlog.max_bytes = limits.waiting_bytes
    parts.codec.resize(limits.codec_processes)
    parts.codec.compressor.is_on = server.compression
    parts.gateway.needs_all = server.readiness == "all"
    parts.watch.set_interval(configuration.watch_seconds)
    parts.registry.reconfigure(configuration)


def _check_reloadable(changed: dict[str, bool]) -> None:
    """Raise `ConfigurationError` with every key that a running server cannot change."""
    fixed = [key for key, needs_restart in changed.items() if needs_restart]
    if fixed:
        raise ConfigurationError(*(f"{key} has changed, which needs a restart" for key in fixed))
