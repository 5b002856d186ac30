"""A slab: a piece of shared memory without a name.

It is a sealed `memfd`, mapped by the process that writes and the one that reads; nothing of it can be left
behind in a file system, and since its size is sealed neither side can make the other read past its end.
"""

from __future__ import annotations

import fcntl
import mmap
import os

MIN_BYTES = 64 << 10
_KEPT_BYTES = 16 << 20


class Slab:
    """`size` bytes of shared memory, and the descriptor by which another process maps them."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self._map = mmap.mmap(descriptor, size)
        self.buffer = memoryview(self._map)

    @classmethod
    def allocate(cls, nbytes: int) -> Slab:
        """A new slab of at least `nbytes`: the next power of two, so that growth is rare."""
        size = max(MIN_BYTES, 1 << (nbytes - 1).bit_length()) if nbytes else MIN_BYTES
        descriptor = os.memfd_create("maas-slab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(
                descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            )
            return cls(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise

    @classmethod
    def attach(cls, descriptor: int) -> Slab:
        """The slab behind a descriptor that another process sent; this object owns it from now on.

        Raises `OSError` where it is none, or could be shrunk under its reader.
        """
        try:
            if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise OSError("the slab is not sealed")
            return cls(descriptor, os.fstat(descriptor).st_size)
        except OSError:
            os.close(descriptor)
            raise

    @property
    def is_large(self) -> bool:
        """Whether it is not to be kept for work that may never come."""
        return self.size > _KEPT_BYTES

    def suits(self, nbytes: int) -> bool:
        """Whether it is worth using for `nbytes`: it holds them, and one large batch does not keep it for ever."""
        return nbytes <= self.size and (not self.is_large or nbytes > self.size // 8)

    def free(self) -> None:
        """Close the descriptor and drop the mapping, which goes when the last array that views it does."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self.buffer = memoryview(b"")
            del self._map
