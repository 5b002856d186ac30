"""TLS as `curl` has it: the system's authorities or those of a file are trusted, or nobody is asked for a certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from maas.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are secured. `name` is the server's, as its certificate must have it; `ca` a file of authorities in
    PEM, or the system's where it is None. Goes to the client's processes, which a context cannot."""

    name: str
    ca: Path | None = None
    is_checked: bool = True

    def context(self) -> ssl.SSLContext:
        """Raises `InvalidRequest` where `ca` is no such file."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # SSLError is one
            raise InvalidRequest(f"{self.ca} holds no certificates: {error.strerror or error}") from error
        if not self.is_checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
