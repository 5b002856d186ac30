"""Answers that their clients have not taken yet: who takes nothing for too long is cut off, and the memory returned."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class _Watched:
    size: int  # bytes in the transport's buffer when it was last looked at
    since: float  # when it was last seen to shrink


class Unsent:
    """Transports with bytes in their buffers. Closing ones are watched too: they stay until their bytes are gone."""

    def __init__(self, patience: float) -> None:
        self.patience = patience  # seconds without progress
        self._watched: dict[asyncio.Transport, _Watched] = {}

    def watch(self, transport: asyncio.Transport, now: float) -> None:
        self._watched[transport] = _Watched(transport.get_write_buffer_size(), now)

    def forget(self, transport: asyncio.Transport) -> None:
        self._watched.pop(transport, None)

    def sweep(self, now: float) -> None:
        for transport, watched in list(self._watched.items()):
            size = transport.get_write_buffer_size()
            if size < watched.size:
                watched.since = now
            watched.size = size
            if size == 0:
                self.forget(transport)
            elif now - watched.since > self.patience:
                transport.abort()
