"""The heap of a model process: what a batch frees stays for the next one, until there has been none for a while.

By itself glibc gives the memory of a large tensor back as soon as it is free, and the next batch takes the same pages anew,
zeroed, one fault for each: for a small convolutional network a third of its time. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_NEVER = (1 << 31) - 1  # bytes at the end of the heap
_LARGE = 32 << 20  # bytes: the most that glibc takes from its heap, unless it takes everything from there


def keep_freed() -> None:
    """From now on nothing is given back unasked but single tensors that are very large: where addresses are limited, the holes
    that those leave in a heap are room that is missing."""
    with suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


def give_back() -> None:
    """What is free goes back to the system now."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
