"""The fast lane: small inference requests answered where their bytes come in, without a task, a router or ASGI messages.

The other driver of the same exchange is `maas.api.endpoint`, which has what is not for here: a body that is large, comes in
chunks or is waited for with `100 Continue`, and a client that reads more slowly than it asks. The connection keeps order,
limits and disconnects for both alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from maas.api.body import check_length
from maas.api.codec import SMALL, Codec, is_large
from maas.api.compression import compressed, is_short
from maas.api.door import Door
from maas.api.operation import Call, Payload
from maas.api.reply import HttpExchange, Reply
from maas.api.request_id import new_request_id
from maas.api.routes import Target
from maas.api.terms import Asked
from maas.batching.request import Answer, Outcome, Request
from maas.edge.head import Head
from maas.errors import MaasError
from maas.gateway import Gateway, Terms
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

if TYPE_CHECKING:
    from maas.edge.cycle import Cycle

# Bytes of a body with raw tensors that is taken: of a larger one the connection stops the reading.
_SMALL_RAW = HIGH_WATER_LIMIT


class Lane:
    """`in_flight` is how many requests are on their way in it."""

    def __init__(self, gateway: Gateway, door: Door, recorder: RequestRecorder, codec: Codec) -> None:
        self.gateway = gateway
        self.door = door
        self.recorder = recorder
        self.codec = codec
        self.in_flight = 0

    def takes(self, head: Head) -> bool:
        """Whether a request with this head may be answered here, when its body is whole."""
        length, asked = head.framing.length, head.asked
        if asked is None or length is None or head.method != "POST" or head.framing.expects_continue:
            return False
        if asked.codings:
            return False
        return length <= (SMALL if asked.json_size is None else _SMALL_RAW)

    def enter(self, cycle: Cycle) -> None:
        """Begin a request whose body is whole, and too small to have stopped the reading. It may be answered when this
        returns."""
        head = cycle.head
        target, asked = head.target, head.asked
        assert target is not None
        assert asked is not None
        self.in_flight += 1
        cycle.passage = passage = Passage(
            self.gateway,
            self.recorder,
            asked.request_id or new_request_id(),
            Terms(time.monotonic() - cycle.late),
            operation=target.operation,
            lane=self,
            cycle=cycle,
        )
        passage.begin(target, asked, cycle.take())


class Passage(HttpExchange[Any], kw_only=True):
    """An exchange in the lane; it replies to its cycle, once, unless it is abandoned."""

    lane: Lane
    cycle: Cycle
    call: Call[Any] | None = None
    request: Request | None = None
    writing: asyncio.Task[None] | None = None
    is_over: bool = False

    def begin(self, target: Target, asked: Asked, body: bytes) -> None:
        try:
            live = self.open(target.model, target.version)
            if live.batcher.has_refused and (refusal := self._refusal(live, asked)) is not None:
                self._reply(self.refused(refusal))
                return
            self.agree(asked)
            check_length(len(body), live.body_limit)
            self.call = call = self.operation.parse(live, Payload(body, asked.json_size))
            self.request = self.submit(call, self._complete)
        except Exception as error:
            self._reply(self.failed(error))

    def _refusal(self, live: LiveVersion, asked: Asked) -> MaasError | None:
        return self.lane.door.refusal_by(live, asked, self.cycle.late)

    def abandon(self) -> None:
        """The caller has left."""
        if self.is_over:
            return
        self._end()
        if self.writing is not None:
            self.writing.cancel()
        if self.request is not None and self.live is not None and not self.request.is_done:
            self.live.batcher.abandon(self.request)

    def _complete(self, outcome: Outcome) -> None:
        """Called by the batcher, which nothing that goes wrong here may reach."""
        live, call = self.live, self.call
        assert live is not None
        assert call is not None
        try:
            if isinstance(outcome, Exception):
                reply = self.failed(outcome)
            elif is_large(outcome) and not self.operation.gives_raw(call.form):
                self._write_later(outcome, partial(self._render, live, call, outcome))
                return
            else:
                payload = self.operation.render(live, call.form, outcome)
                if self.accepted is not None and self.lane.codec.compressor.suits(self.accepted, payload):
                    if not is_short(payload):
                        self._write_later(outcome, partial(self.lane.codec.compress, payload, self.accepted))
                        return
                    payload = compressed(payload, self.accepted.coding)
                reply = self.answered(outcome, payload)
        except Exception as error:
            reply = self.failed(error)
        self._reply(reply)

    async def _render(self, live: LiveVersion, call: Call[Any], answer: Answer) -> Payload:
        codec, deadline = self.lane.codec, self.terms.deadline_for(live)
        payload = await codec.render(self.operation, live, call.form, answer, deadline)
        return await codec.compress(payload, self.accepted)

    def _write_later(self, answer: Answer, make: Callable[[], Awaitable[Payload]]) -> None:
        """A large answer is written by a process of its own, or compressed on a thread, and not in one go."""
        connection = self.cycle.connection
        self.writing = connection.loop.create_task(self._write(answer, make))
        connection.tasks.add(self.writing)
        self.writing.add_done_callback(connection.tasks.discard)

    async def _write(self, answer: Answer, make: Callable[[], Awaitable[Payload]]) -> None:
        try:
            reply = self.answered(answer, await make())
        except Exception as error:
            reply = self.failed(error)
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        if not self.is_over:
            self._end()
            self.cycle.reply(reply, self.request_id)

    def _end(self) -> None:
        self.is_over = True
        self.lane.in_flight -= 1
