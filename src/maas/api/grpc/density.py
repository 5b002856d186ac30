"""How dense a large message is, found out before it is parsed.

Parsing holds the interpreter for as long as it takes: 64 MiB of empty inputs take four seconds and 2.8 GB. Raw contents, and
typed ones of a fixed size, are copied in one go; everything else costs by the piece. So the pieces are counted, by reading
the message's outline (https://protobuf.dev/programming-guides/encoding/) and nothing of what it holds, and raw contents are
left where they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from maas.errors import InvalidRequest

_MOST_PIECES = 65_536  # fields
_MOST_DENSE = 8 << 20  # bytes of what is read piece by piece

_RAW = 7 << 3 | 2  # the tag of raw contents
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_FREE: Mapping[int, object] = {}  # copied in one go
_CONTENTS: Mapping[int, object] = {6: _FREE, 7: _FREE, 8: _FREE}  # fp32, fp64, and each of the bytes
_INPUT: Mapping[int, object] = {5: _CONTENTS}
_REQUEST: Mapping[int, object] = {5: _INPUT, 7: _FREE}


def cut_raw(data: bytes) -> tuple[bytes, list[memoryview]]:
    """A large `ModelInferRequest` without its raw contents, and these where they lie in `data`: parsed, they would be copied twice.

    Raises `InvalidRequest` where parsing it would take too long, or it is no message.
    """
    outline = _Outline(data)
    try:
        outline.walk(0, len(data), _REQUEST)
    except IndexError:
        raise InvalidRequest("the message is no ModelInferRequest") from None
    whole = memoryview(data)
    rest, end = [], 0
    for tag, _, stop in outline.raw:
        rest.append(whole[end:tag])
        end = stop
    return b"".join((*rest, whole[end:])), [whole[start:stop] for _, start, stop in outline.raw]


class _Outline:
    """Counts what it walks over; `raw` is where raw contents have their tags, begin and end."""

    def __init__(self, data: bytes) -> None:
        self.raw: list[tuple[int, int, int]] = []
        self._data = data
        self._pieces = 0
        self._dense = 0

    def walk(self, at: int, end: int, kinds: Mapping[int, object]) -> None:
        """Over the fields from `at` to `end`; `kinds` says by their numbers which have fields in turn, and which are free."""
        while at < end:
            self._pieces += 1
            start = at
            tag, at = self._varint(at)
            size, at = self._size(tag & 7, at)
            if at + size > end:
                raise IndexError
            if kinds is _REQUEST and tag == _RAW:
                self.raw.append((start, at, at + size))
            self._enter(at, size, kinds.get(tag >> 3))
            at += size
            if self._pieces > _MOST_PIECES or self._dense > _MOST_DENSE:
                raise InvalidRequest(
                    f"the message has over {_MOST_PIECES} parts, or {_MOST_DENSE} bytes that are read one by one; send raw contents"
                )

    def _enter(self, at: int, size: int, kind: object) -> None:
        if kind is None:
            self._dense += size
        elif kind is not _FREE:
            assert isinstance(kind, Mapping)
            self.walk(at, at + size, kind)

    def _size(self, wire_type: int, at: int) -> tuple[int, int]:
        """Of the field's content, and where that begins."""
        if wire_type == _LENGTH:
            return self._varint(at)
        if wire_type == _VARINT:
            _, after = self._varint(at)
            return after - at, at
        if wire_type in (_FIXED32, _FIXED64):
            return (4 if wire_type == _FIXED32 else 8), at
        raise IndexError  # groups, which nobody sends

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
            if shift > 63:
                raise IndexError
