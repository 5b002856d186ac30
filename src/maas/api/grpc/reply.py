"""An inference request by gRPC, and the reply to it. What HTTP says in headers is metadata here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from maas.api.errors import headers_of
from maas.api.exchange import SPENT, Exchange, HeaderList, version_headers
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.request_id import HEADER
from maas.batching.request import Timings
from maas.errors import MaasError

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer or, where there is none, the error; `asked` is the request as far as it could be read."""

    asked: ModelInferRequest
    answer: ModelInferResponse | None
    error: Exception | None
    metadata: Metadata


class GrpcExchange(Exchange, kw_only=True):
    """Ended once, by `answered`, `refused`, `failed` or `left`, which record it. `raw` are the raw contents of its inputs, which
    the message may lack."""

    message: ModelInferRequest = msgspec.field(default_factory=ModelInferRequest)
    raw: Sequence[bytes | memoryview] = ()

    def answered(self, answer: ModelInferResponse, timings: Timings) -> Reply:
        assert self.live is not None
        spent = self.record_answer(self.live, timings)
        return Reply(self.message, answer, None, self._beside([(SPENT, spent)]))

    def refused(self, error: MaasError) -> Reply:
        return self._reply_to(error, self.record_refusal(error))

    def failed(self, error: Exception) -> Reply:
        return self._reply_to(error, self.record_failure(error))

    def left(self) -> None:
        """By its caller, who hears nothing any more."""
        self.recorder.turned_away(self.live.labels if self.live else None, "cancelled")

    def _reply_to(self, error: Exception, spent: bytes) -> Reply:
        beside = self._beside([*headers_of(error), (SPENT, spent)])
        return Reply(self.message, None, error, beside)

    def _beside(self, headers: HeaderList) -> Metadata:
        live = self.live
        named = version_headers(live.label, live.digest) if live else []
        return as_metadata([(HEADER, self.request_id), *named, *headers])


def as_metadata(headers: HeaderList) -> Metadata:
    return tuple((name.decode(), value.decode()) for name, value in headers)
