"""One inference request by gRPC, from its bytes to its reply: admitted, parsed, asked, rendered and recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
from google.protobuf.message import DecodeError

from maas.api.body import check_length
from maas.api.codec import LARGE
from maas.api.door import Door
from maas.api.grpc.density import cut_raw
from maas.api.grpc.held import Held
from maas.api.grpc.inference import InferForm, parse_infer, render_infer
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.grpc.reply import GrpcExchange, Reply
from maas.api.operation import Call
from maas.api.request_id import choose_request_id
from maas.api.terms import read_asked
from maas.batching.backlog import Backlog
from maas.batching.request import Timings
from maas.errors import InvalidRequest, MaasError, QueueFull
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

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


class _TurnedAway(Exception):
    """By the door, which is counted and no news."""

    def __init__(self, error: MaasError) -> None:
        self.error = error


class Asking:
    """The driver of gRPC's exchanges. Asks the gateway, and has the door count what is in its hands."""

    def __init__(
        self, gateway: Gateway, door: Door, recorder: RequestRecorder, backlog: Backlog, held: Held
    ) -> None:
        self._gateway = gateway
        self._door = door
        self._recorder = recorder
        self._backlog = backlog
        self._held = held

    async def ask(self, data: bytes, caller: Caller) -> Reply:
        """Answered or failed, and recorded. Cancelled, the request is taken off the queue."""
        exchange = GrpcExchange(
            self._gateway, self._recorder, choose_request_id(caller.headers), Terms(time.monotonic())
        )
        try:
            if closed := self._door.closed(0):
                raise _TurnedAway(closed)
            with self._holding(len(data)):
                return exchange.answered(*await self._answer(exchange, data, caller))
        except asyncio.CancelledError:
            exchange.left()
            raise
        except _TurnedAway as turned:
            return exchange.refused(turned.error)
        except Exception as error:
            return exchange.failed(error)

    def unread(self, error: MaasError) -> None:
        """Count a request that has not come in whole."""
        self._recorder.turned_away(None, error.code)

    async def _answer(
        self, exchange: GrpcExchange, data: bytes, caller: Caller
    ) -> tuple[ModelInferResponse, Timings]:
        exchange.message, exchange.raw = _read(data)
        message = exchange.message
        version = message.model_version or None
        live = exchange.open(message.model_name, version)
        check_length(len(data), live.body_limit)
        self._agree(exchange, caller, live)
        return await exchange.ask(message.model_name, version, partial(self._infer, exchange, len(data)))

    def _agree(self, exchange: GrpcExchange, caller: Caller, live: LiveVersion) -> None:
        """To what the caller asks for, unless the version is too busy for it."""
        asked = read_asked(caller.headers)
        if caller.timeout is not None:
            asked = msgspec.structs.replace(asked, timeout=min(asked.timeout, caller.timeout))
        terms = exchange.terms
        terms.timeout, terms.priority = asked.timeout, asked.priority
        if refusal := self._door.refusal_by(live, asked, time.monotonic() - terms.arrived):
            raise _TurnedAway(refusal)

    async def _infer(
        self, exchange: GrpcExchange, size: int, live: LiveVersion
    ) -> tuple[ModelInferResponse, Timings]:
        call = await _parse(live, exchange, size)
        exchange.heed(call)
        answer = await self._gateway.infer(live, call.inputs, exchange.terms)
        return render_infer(live, call.form, answer), answer.timings

    @contextmanager
    def _holding(self, nbytes: int) -> Iterator[None]:
        """Count the request, and its bytes where they are many, against what the server holds. Raises `QueueFull`."""
        self._held.check_answers()
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


def _read(data: bytes) -> tuple[ModelInferRequest, Sequence[bytes | memoryview]]:
    """The message, which lacks its raw contents where it is large, and these."""
    try:
        if len(data) > LARGE:
            rest, raw = cut_raw(data)
            return ModelInferRequest.FromString(rest), raw
        message = ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidRequest("the message is no ModelInferRequest") from None
    return message, message.raw_input_contents


async def _parse(live: LiveVersion, exchange: GrpcExchange, size: int) -> Call[InferForm]:
    """Many numbers that have to be read one by one are read on a thread, which gives way after each few thousand."""
    if size > LARGE and not exchange.raw:
        return await asyncio.to_thread(parse_infer, live, exchange.message, exchange.raw)
    return parse_infer(live, exchange.message, exchange.raw)
