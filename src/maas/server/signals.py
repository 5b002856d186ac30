"""The signals that a server obeys, as events."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Signals:
    """`stop` is set by the first SIGINT or SIGTERM, `abort` by the second; `reload` by SIGHUP, and cleared by who obeys."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    abort: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def signals() -> Iterator[Signals]:
    """They are heard by the running loop within the block."""
    loop = asyncio.get_running_loop()
    heard = Signals()

    def on_stop() -> None:
        (heard.abort if heard.stop.is_set() else heard.stop).set()

    obeyed = {signal.SIGINT: on_stop, signal.SIGTERM: on_stop, signal.SIGHUP: heard.reload.set}
    for number, obey in obeyed.items():
        loop.add_signal_handler(number, obey)
    try:
        yield heard
    finally:
        for number in obeyed:
            loop.remove_signal_handler(number)
