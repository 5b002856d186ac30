"""Inputs that ended a model process, refused for a while so that a client's retries do not end one after the other."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from maas.types import Tensors

_SECONDS = 60.0
_MAX_INPUTS = 1024


class Quarantine:
    """Digests with the time at which each is free again. Nothing is hashed while there is none."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

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
            digest.update(array.tobytes())
    return digest.digest()
