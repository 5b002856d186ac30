"""Content codings as headers name them: how a body was compressed, and how an answer may be (RFC 9110, 8.4 and 12.5.3)."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from maas.api.errors import UnsupportedCoding
from maas.types import clip

GZIP, DEFLATE = "gzip", "deflate"
_NAMES = {"gzip": GZIP, "x-gzip": GZIP, "deflate": DEFLATE}
_IDENTITY = "identity"
_ANY = "*"
_MOST = 4  # codings on top of each other
_WEIGHT = re.compile(r"[ \t]*;[ \t]*q[ \t]*=[ \t]*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE)


class Accepted(msgspec.Struct, frozen=True):
    """The coding that a caller likes best of ours. Where it `is_sole` the caller names no other, and means it; a list is what
    libraries send by habit."""

    coding: str
    is_sole: bool


@lru_cache(64)
def read_codings(value: bytes) -> tuple[str, ...]:
    """A body's codings by its `Content-Encoding`, in the order in which they are undone. Raises `UnsupportedCoding`."""
    codings = []
    for word in value.decode("latin-1").split(","):
        name = word.strip().lower()
        if name in ("", _IDENTITY):
            continue
        if name not in _NAMES:
            raise UnsupportedCoding(f"content encoding {clip(name)!r} is not read here; gzip and deflate are")
        codings.append(_NAMES[name])
    if len(codings) > _MOST:
        raise UnsupportedCoding(f"the body has {len(codings)} content encodings; at most {_MOST} are undone")
    return tuple(reversed(codings))


@lru_cache(256)
def read_accepted(value: bytes) -> Accepted | None:
    """By an `Accept-Encoding`: None where an answer is to stay as it is. What cannot be read is not accepted; of two that are
    liked alike gzip is taken."""
    weights: dict[str, float] = {}
    for word in value.decode("latin-1").split(","):
        name, separator, rest = word.partition(";")
        name = name.strip().lower()
        found = _WEIGHT.fullmatch(separator + rest)
        if name and (found or not separator):
            weights[_NAMES.get(name, name)] = float(found[1]) if found else 1.0
    others = weights.get(_ANY, 0.0)
    coding = max((GZIP, DEFLATE), key=lambda name: weights.get(name, others))
    weight = weights.get(coding, others)
    if not weight or weight < weights.get(_IDENTITY, 0.0):
        return None
    named = [name for name, liked in weights.items() if liked and name != _IDENTITY]
    return Accepted(coding, is_sole=named == [coding] or _refuses_identity(weights))


def _refuses_identity(weights: dict[str, float]) -> bool:
    return not weights.get(_IDENTITY, weights.get(_ANY, 1.0))
