"""What is recorded of each inference request when it is over: a count, its latency, and a log line if it is worth one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii

import msgspec
import structlog

from maas.batching.request import Timings
from maas.errors import MaasError
from maas.telemetry.logs import write_soon
from maas.telemetry.metrics import OTHER, Labels, Metrics


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Which answered requests are logged: all, a random share, and those slower than `slow_seconds`."""

    log_all: bool = False
    share: float = 0.0
    slow_seconds: float = 1.0


class AnsweredLine(msgspec.Struct, frozen=True, gc=False):
    """What the log says of a request that was answered, as structlog would: with access logs on it is most of the log, and
    structlog's own way of saying it takes longer than the request."""

    version: Labels
    request_id: bytes
    queue: float  # seconds, as those below
    compute: float
    total: float
    is_slow: bool

    def render(self, at: float) -> str:
        """A version's names hold nothing that JSON escapes; a request's id may."""
        model, version = self.version
        return (
            f'{{"model": "{model}/{version}"'
            f', "request_id": {encode_basestring_ascii(self.request_id.decode())}'
            f', "queue_ms": {self.queue * 1e3:.3f}'
            f', "compute_ms": {self.compute * 1e3:.3f}'
            f', "total_ms": {self.total * 1e3:.3f}'
            f', "event": "{"request_slow" if self.is_slow else "request_answered"}"'
            f', "level": "info", "timestamp": {at!r}}}'
        )


class RequestRecorder:
    """`policy` may be set anew."""

    def __init__(self, metrics: Metrics, policy: AccessPolicy) -> None:
        self._metrics = metrics
        self.policy = policy
        self._log = structlog.get_logger("maas.requests")

    def answered(self, version: Labels, request_id: bytes, timings: Timings, total: float) -> None:
        """`total` is in seconds, from the first byte of the request that we saw to the answer."""
        self._metrics.count_answer(version, timings, total)
        is_slow = total >= self.policy.slow_seconds
        if is_slow or self.policy.log_all or (self.policy.share and random.random() < self.policy.share):  # noqa: S311 - a sample, no secret
            write_soon(AnsweredLine(version, request_id, timings.queue, timings.compute, total, is_slow))

    def failed(self, version: Labels | None, request_id: str, error: Exception, total: float) -> None:
        """`version` is None where the request named none that is served. An error outside our tree is a bug."""
        facts = {
            "model": "/".join(version) if version else None,
            "request_id": request_id,
            "total_ms": round(total * 1e3, 3),
        }
        if not isinstance(error, MaasError):
            self._metrics.count_error(version or OTHER, MaasError.code, total)
            self._log.error("request_met_a_bug", exc_info=error, **facts)
            return
        self._metrics.count_error(version or OTHER, error.code, total)
        if error.trace:
            facts["trace"] = error.trace
        self._log.warning("request_failed", code=error.code, error=error.message, **facts)

    def turned_away(self, version: Labels | None, outcome: str) -> None:
        """Counted without a line in the log: a request refused before it was read (an error's code), or one whose caller
        left (`cancelled`). Under overload that is most of them, and none of it is news."""
        self._metrics.count_error(version or OTHER, outcome)
