"""Inputs that ended a model process, refused for a while so that a client's retries do not end one after the other."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from maas.types import Array, Tensors

_SECONDS = 60.0
_MAX_INPUTS = 1024
_PIECE = 16 << 10  # bytes
_MAX_PIECES = 64


class Quarantine:
    """Digests with the time at which each is free again. Nothing is hashed while there is none."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, inputs: Tensors, now: float) -> None:
        self._until[_digest(inputs)] = now + _SECONDS
        if len(self._until) > _MAX_INPUTS:
            self._until.popitem(last=False)

    def seconds_left(self, inputs: Tensors, now: float) -> float:
        """How long `inputs` are refused yet; 0 where they are not."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return self._until.get(_digest(inputs), now) - now if self._until else 0.0


def _digest(inputs: Tensors) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        if array.dtype.kind == "O":
            for element in array.flat:
                digest.update(b"%d " % len(element) + element)
        else:
            for piece in _pieces(array):
                digest.update(piece)
    return digest.digest()


def _pieces(array: Array) -> Iterator[bytes]:
    """All of a small array; of a large one, which would hold up the loop, pieces and the sum of all of it, so that no two
    that differ are likely to look the same."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(flat) // 8 * 8
    yield flat[:whole].view(np.uint64).sum().tobytes() + flat[whole:].tobytes()
    step = max(_PIECE, len(flat) // _MAX_PIECES)
    for start in range(0, len(flat), step):
        yield flat[start : start + _PIECE].tobytes()
