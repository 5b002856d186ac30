"""Who may ask while there are no keys: programs of this machine, and pages that it serves itself.

That nobody else reaches a loopback address is not enough. Any page that a developer looks at may have the browser send
requests there, and by giving its own name the address 127.0.0.1 (DNS rebinding) may read the answers too. Such requests are
told by their headers: `Host` has the page's name, or `Origin` does.
"""

from __future__ import annotations

import re

from maas.edge.head import Headers
from maas.errors import Forbidden
from maas.types import clip

_HOST = rb"(?i:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{0,5})?"
_LOCAL = {b"host": re.compile(_HOST), b"origin": re.compile(rb"https?://" + _HOST)}
_REMEMBERED = 64  # headers; there are few that are right


class LocalCallers:
    """Remembers the headers that it has let through: they are the same in nearly every request."""

    def __init__(self) -> None:
        self._known: set[tuple[bytes, bytes]] = set()

    def check(self, headers: Headers) -> None:
        """Raise `Forbidden` where a header shows that the request is meant for another host, or comes from its pages."""
        for header in headers:
            if header not in self._known and header[0] in _LOCAL:
                self._judge(header)

    def _judge(self, header: tuple[bytes, bytes]) -> None:
        name, value = header
        if not _LOCAL[name].fullmatch(value):
            shown = clip(value.decode("latin-1"))
            raise Forbidden(
                f"{name.decode().capitalize()} is {shown!r}; on a loopback bind only localhost and its own pages may ask, "
                "unless the configuration says `access: open`"
            )
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.add(header)
