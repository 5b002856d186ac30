"""What came back over HTTP, and which error of our tree it stands for.

A body of ours is `{"error": "sentence", "code": "word"}`, or has the code in the header `X-Error-Code`, and the code decides; `draining` without a time to return is
said of a request that was being run. Anything else comes from something
in between, such as a proxy: there the status decides, and the message says who seems to have answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from maas import errors
from maas.client.wire import decode
from maas.errors import (
    Aborted,
    DeadlineExceeded,
    Draining,
    Forbidden,
    InvalidRequest,
    MaasError,
    ModelFailed,
    ModelNotFound,
    Refused,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from maas.types import clip

_EXCERPT = 200  # characters of a stranger's answer that a message shows

_BY_CODE: Mapping[str, type[MaasError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MaasError)
} | {"model_crashed": ModelFailed, "non_finite_output": ModelFailed, "draining": Draining}

_BY_STATUS: Mapping[int, type[MaasError]] = {
    401: Forbidden,
    403: Forbidden,
    404: ModelNotFound,
    408: DeadlineExceeded,
    413: TooLarge,
    415: UnsupportedMedia,
    429: Refused,
    500: MaasError,
    504: DeadlineExceeded,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One complete HTTP answer to the request `sent_id`; `headers` are looked up without regard to case."""

    url: str
    sent_id: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The id under which the server's log knows the request."""
        return self.headers.get("x-request-id") or self.sent_id

    def document(self) -> dict[str, object]:
        """The object that the server answered with; raises the error that the reply stands for."""
        document = self._object()
        if document is None or self.status != HTTPStatus.OK:
            raise self._error(document or {})
        return document

    def says(self, word: str) -> bool:
        """Whether this is a 200 whose body has `word` as true, as health answers do."""
        return self.status == HTTPStatus.OK and (self._object() or {}).get(word) is True

    def unreadable(self, problem: object) -> Unavailable:
        """The error for a success of which no sense can be made."""
        error = Unavailable(f"{self._stranger()} ({problem})")
        error.request_id = self.request_id
        return error

    def _object(self) -> dict[str, object] | None:
        try:
            document = decode(self.body)
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    def _error(self, document: dict[str, object]) -> MaasError:
        code, message = document.get("code") or self.headers.get("x-error-code"), document.get("error")
        kind = _BY_CODE.get(code) if isinstance(code, str) else None
        retry_after = self._retry_after()
        error = _build(
            Aborted if kind is Draining and retry_after is None else kind or self._kind_by_status(),
            message if isinstance(message, str) else self._stranger(),
            code if isinstance(code, str) else None,
            retry_after,
        )
        error.request_id = self.request_id
        return error

    def _kind_by_status(self) -> type[MaasError]:
        is_callers_fault = 400 <= self.status < 500
        return _BY_STATUS.get(self.status, InvalidRequest if is_callers_fault else Unavailable)

    def _stranger(self) -> str:
        media = self.headers.get("content-type", "no content type")
        said = self.headers.get("location") or self.body[: 4 * _EXCERPT].decode(errors="replace")
        excerpt = clip(" ".join(said.split()), _EXCERPT)
        return f"{self.url} answered {_status_line(self.status)} with {media}, not in the words of maas: {excerpt!r}"

    def _retry_after(self) -> float | None:
        """Seconds; the header in milliseconds is the finer one. A date, which we never send, is no hint."""
        for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            try:
                seconds = float(self.headers.get(header, "")) * unit
            except ValueError:
                continue
            if seconds >= 0 and math.isfinite(seconds):
                return seconds
        return None


def _build(kind: type[MaasError], message: str, code: str | None, retry_after: float | None) -> MaasError:
    if issubclass(kind, Refused):
        refusal = kind(message, retry_after=retry_after or 0.0)
        refusal.code = code or kind.code
        return refusal
    error = kind(message, code=code)
    if isinstance(error, Unavailable):
        error.retry_after = retry_after
    return error


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
