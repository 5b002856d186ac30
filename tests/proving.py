"""One launcher for the versions that a session of tests proves, as a server has one for those that it loads: each engine is
imported once, where `verify` would import it for every version."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from maas.models.repository import StoredVersion
from maas.models.verification import load_by
from maas.workers.frames import Load
from maas.workers.launcher import Launcher

LoadOnce = Callable[[StoredVersion, Load], Awaitable[float]]


@contextmanager
def one_launcher() -> Iterator[LoadOnce]:
    """What `maas.models.verification` may call instead of its own, from any loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    launcher = Launcher()

    async def load(stored: StoredVersion, frame: Load) -> float:
        there = asyncio.run_coroutine_threadsafe(load_by(launcher, stored, frame), loop)
        return await asyncio.wrap_future(there)

    try:
        yield load
    finally:
        asyncio.run_coroutine_threadsafe(launcher.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
