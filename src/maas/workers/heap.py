"""The heap of a process: what large tensors and bodies free stays in it for the next ones.

By itself glibc gives the memory of a large tensor back as soon as it is free, and the next batch takes the same pages anew,
zeroed, one fault for each: for a small convolutional network a third of its time. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_UNBOUNDED = (1 << 31) - 1
_LARGEST = 32 << 20  # bytes: the most that glibc takes from its heap, unless it takes everything from there


def keep_freed(most: int = _UNBOUNDED, largest: int = _LARGEST) -> None:
    """From now on blocks of up to `largest` bytes come from the heap, at whose end up to `most` bytes are kept when they are
    free. What is larger goes back by itself: where addresses are limited, the holes that it left would be room that is
    missing."""
    with suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, largest)
        libc.mallopt(_M_TRIM_THRESHOLD, most)


def give_back() -> None:
    """What is free goes back to the system now."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
