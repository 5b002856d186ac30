"""A timer of microseconds for an event loop.

The loops' own timers count milliseconds, which would make each request of an open loop up to one late: longer than many
models take. Linux has `timerfd`, which `os` offers from Python 3.13 on.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("value", _Moment))


class PreciseTimer:
    """Calls `wake` once after each `set`, until it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(_MONOTONIC, _FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timer descriptor")
        loop.add_reader(self._descriptor, self._expired)

    def set(self, moment: float) -> None:
        """Wake at `moment` of `time.monotonic`, or at once if that is past."""
        nanoseconds = max(1, int(moment * 1e9))
        setting = _Setting(value=_Moment(*divmod(nanoseconds, 1_000_000_000)))
        self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(setting), None)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _expired(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # it was set anew in the meantime
            return
        self._wake()
