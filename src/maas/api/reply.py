"""An inference request by HTTP, and the reply to it: an exchange with the functions of a dialect."""

from __future__ import annotations

from functools import lru_cache
from typing import Generic

import msgspec

from maas.api.codings import Accepted
from maas.api.errors import headers_of, public, status_of
from maas.api.exchange import SPENT, Exchange, HeaderList, version_headers
from maas.api.operation import F, Operation, Payload
from maas.api.terms import OCTETS, Asked
from maas.batching.request import Answer
from maas.errors import MaasError, UnsupportedMedia


class Fields(msgspec.Struct, frozen=True):
    """Header fields that many replies share, and the same as the lines that they are on the wire."""

    headers: tuple[tuple[bytes, bytes], ...]
    lines: bytes


def fields(*headers: tuple[bytes, bytes]) -> Fields:
    return Fields(headers, b"".join(b"%b: %b\r\n" % header for header in headers))


_JSON = (b"content-type", b"application/json")
_RAW = (b"content-type", b"application/octet-stream")
_VARY = (b"vary", b"accept-encoding")
JSON_FIELDS = fields(_JSON)


class Reply(msgspec.Struct):
    """What goes back. Its fields and its `extra` ones lack the length and the request's id, which are the driver's to set."""

    status: int
    fields: Fields
    extra: HeaderList
    content: bytes | memoryview


class HttpExchange(Exchange, Generic[F], kw_only=True):
    """Ended once, by `answered`, `refused` or `failed`, which record it. The drivers bring the bytes and take them away; none
    of what they call here waits."""

    operation: Operation[F]
    accepted: Accepted | None = None
    """How the answer may be compressed, if it may."""

    def agree(self, asked: Asked) -> None:
        """To what the head asks for. Raises `UnsupportedMedia` where the dialect has no raw tensors."""
        if not self.operation.takes_raw:
            if asked.is_octets:
                raise UnsupportedMedia(f"content type {OCTETS!r} is not read here; send application/json")
            if asked.json_size is not None:
                raise UnsupportedMedia(
                    "Inference-Header-Content-Length: raw tensors are not read here; send JSON alone"
                )
        self.terms.timeout = asked.timeout
        self.terms.priority = asked.priority
        self.accepted = asked.accepted

    def answered(self, answer: Answer, payload: Payload) -> Reply:
        live = self.live
        assert live is not None
        extra = [(SPENT, self.record_answer(live, answer.timings))]
        if payload.json_size is None:
            return Reply(200, _fields_of(live.label, live.digest, False, payload.coding), extra, payload.data)
        extra.append((b"inference-header-content-length", b"%d" % payload.json_size))
        return Reply(200, _fields_of(live.label, live.digest, True, payload.coding), extra, payload.data)

    def refused(self, error: MaasError) -> Reply:
        return self._reply_to(error, self.record_refusal(error))

    def failed(self, error: Exception) -> Reply:
        return self._reply_to(error, self.record_failure(error))

    def _reply_to(self, error: Exception, spent: bytes) -> Reply:
        live = self.live
        named = _fields_of(live.label, live.digest, False, "") if live else JSON_FIELDS
        content = self.operation.render_error(public(error), self.request_id.decode())
        return Reply(status_of(error), named, [*headers_of(error), (SPENT, spent)], content)


@lru_cache(1024)
def _fields_of(label: str, digest: str, is_raw: bool, coding: str) -> Fields:
    compressed = [(b"content-encoding", coding.encode()), _VARY] if coding else []
    return fields(_RAW if is_raw else _JSON, *version_headers(label, digest), *compressed)
