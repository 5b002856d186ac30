"""One inference request by gRPC, from its bytes to its reply: admitted, parsed, asked, rendered and recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from maas.api.body import check_length
from maas.api.codec import LARGE
from maas.api.door import Door
from maas.api.errors import headers_of
from maas.api.grpc.density import check_density
from maas.api.grpc.inference import InferForm, parse_infer, render_infer
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.operation import Call
from maas.api.request_id import choose_request_id
from maas.api.terms import read_asked
from maas.batching.backlog import Backlog
from maas.batching.request import Timings
from maas.errors import Draining, InvalidRequest, MaasError, QueueFull
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

Metadata = tuple[tuple[str, str], ...]

_RETRY_SECONDS = 1.0
_HEEDED = frozenset(("x-request-timeout", "x-request-priority", "x-request-id"))


@dataclass(frozen=True, slots=True)
class Caller:
    """What a call says beside its message: its metadata as headers, and the seconds until its deadline."""

    headers: tuple[tuple[bytes, bytes], ...] = ()
    timeout: float | None = None

    @classmethod
    def of(cls, metadata: Iterable[tuple[str, str | bytes]], timeout: float | None) -> Caller:
        """Only what is heeded of the metadata; none of these names has a value in bytes."""
        heeded = [(name, value) for name, value in metadata if name in _HEEDED and isinstance(value, str)]
        return cls(tuple((name.encode(), value.encode()) for name, value in heeded), timeout)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer or, where there is none, the error; `asked` is the request as far as it could be read."""

    asked: ModelInferRequest
    answer: ModelInferResponse | None
    error: Exception | None
    metadata: Metadata


@dataclass(slots=True)
class _Request:
    """What is known of a request so far."""

    id: bytes
    terms: Terms
    message: ModelInferRequest = field(default_factory=ModelInferRequest)
    live: LiveVersion | None = None

    @property
    def labels(self) -> tuple[str, str] | None:
        return self.live.labels if self.live is not None else None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.terms.arrived


class _TurnedAway(Exception):
    """By the door, which is counted and no news."""

    def __init__(self, error: MaasError) -> None:
        self.error = error


class Asking:
    """Asks the gateway, and has the door count what is in its hands."""

    def __init__(self, gateway: Gateway, door: Door, recorder: RequestRecorder, backlog: Backlog) -> None:
        self._gateway = gateway
        self._door = door
        self._recorder = recorder
        self._backlog = backlog

    async def ask(self, data: bytes, caller: Caller) -> Reply:
        """Answered or failed, and recorded. Cancelled, the request is taken off the queue."""
        request = _Request(choose_request_id(caller.headers), Terms(time.monotonic()))
        try:
            if closed := self._door.closed(0):
                raise _TurnedAway(closed)
            with self._holding(len(data)):
                answer, timings = await self._answer(request, data, caller)
        except asyncio.CancelledError:
            self._recorder.turned_away(request.labels, "cancelled")
            raise
        except _TurnedAway as turned:
            self._recorder.turned_away(request.labels, turned.error.code)
            return Reply(request.message, None, turned.error, _beside(request, turned.error))
        except Exception as error:
            self._recorder.failed(request.labels, request.id.decode(), error, request.seconds)
            return Reply(request.message, None, error, _beside(request, error))
        return Reply(request.message, answer, None, (*_beside(request), self._record(request, timings)))

    async def _answer(
        self, request: _Request, data: bytes, caller: Caller
    ) -> tuple[ModelInferResponse, Timings]:
        request.message = _read(data)
        live = self._open(request)
        check_length(len(data), live.body_limit)
        self._agree(request, caller, live)
        call = await _parse(live, request.message, len(data))
        try:
            return await self._infer(request, live, call)
        except Draining:
            # Another version may have taken the place of the one that was meant.
            return await self._infer(request, self._open(request), call)

    def _open(self, request: _Request) -> LiveVersion:
        message = request.message
        request.live = live = self._gateway.resolve(message.model_name, message.model_version or None)
        self._gateway.admit(live)
        return live

    def _agree(self, request: _Request, caller: Caller, live: LiveVersion) -> None:
        """To what the caller asks for, unless the version is too busy for it."""
        asked = read_asked(caller.headers)
        if caller.timeout is not None:
            asked = type(asked)(min(asked.timeout, caller.timeout), asked.priority, asked.request_id)
        request.terms.timeout, request.terms.priority = asked.timeout, asked.priority
        if refusal := self._door.refusal_by(live, asked, request.seconds):
            raise _TurnedAway(refusal)

    async def _infer(
        self, request: _Request, live: LiveVersion, call: Call[InferForm]
    ) -> tuple[ModelInferResponse, Timings]:
        terms = request.terms
        if call.timeout is not None:
            terms.timeout = min(terms.timeout, call.timeout)
        if call.priority is not None:
            terms.priority = call.priority
        answer = await self._gateway.infer(live, call.inputs, terms)
        return render_infer(live, call.form, answer), answer.timings

    def _record(self, request: _Request, timings: Timings) -> tuple[str, str]:
        total = request.seconds
        assert request.live is not None
        self._recorder.answered(request.live.labels, request.id, timings, total)
        spent = f"queue;dur={timings.queue * 1e3:.3f}, compute;dur={timings.compute * 1e3:.3f}, total;dur={total * 1e3:.3f}"
        return ("server-timing", spent)

    @contextmanager
    def _holding(self, nbytes: int) -> Iterator[None]:
        """Count the request, and its bytes where they are many, against what the server holds. Raises `QueueFull`."""
        counted = nbytes if nbytes > LARGE else 0
        if counted and (reason := self._backlog.refusal(counted)):
            raise QueueFull(reason, retry_after=_RETRY_SECONDS)
        self._door.elsewhere += 1
        self._backlog.hold(counted)
        try:
            yield
        finally:
            self._backlog.let_go(counted)
            self._door.elsewhere -= 1


def _read(data: bytes) -> ModelInferRequest:
    if len(data) > LARGE:
        check_density(data)
    try:
        return ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidRequest("the message is no ModelInferRequest") from None


async def _parse(live: LiveVersion, message: ModelInferRequest, size: int) -> Call[InferForm]:
    """Many numbers that have to be read one by one are read on a thread, which gives way after each few thousand."""
    if size > LARGE and not message.raw_input_contents:
        return await asyncio.to_thread(parse_infer, live, message)
    return parse_infer(live, message)


def _beside(request: _Request, error: Exception | None = None) -> Metadata:
    """What HTTP says in headers."""
    beside = [("x-request-id", request.id.decode())]
    if request.live is not None:
        beside += [("x-model-version", request.live.label), ("x-model-digest", request.live.digest)]
    if error is not None:
        beside += [(name.decode(), value.decode()) for name, value in headers_of(error)]
    return tuple(beside)
