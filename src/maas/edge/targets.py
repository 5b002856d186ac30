"""What inference the targets of requests ask for, remembered: there are few, and each comes again and again."""

from __future__ import annotations

from maas.api.routes import Target, find_target
from maas.edge.head import decode_path, split_target
from maas.errors import InvalidRequest

_REMEMBERED = 4096
_REMEMBERED_LENGTH = 256  # bytes; no path of a version that is served is longer


class Targets:
    def __init__(self) -> None:
        self._known: dict[bytes, Target | None] = {}

    def find(self, url: bytes) -> Target | None:
        """None where the target is not one of inference, or cannot be read."""
        try:
            return self._known[url]
        except KeyError:
            target = _find(url)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            if len(url) <= _REMEMBERED_LENGTH:
                self._known[url] = target
            return target


def _find(url: bytes) -> Target | None:
    try:
        return find_target(decode_path(split_target(url)[0]))
    except InvalidRequest:
        return None
