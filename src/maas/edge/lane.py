"""The fast lane: small inference requests answered where their bytes come in, without a task, a router or ASGI messages.

The other driver of the same exchange is `maas.api.endpoint`, which has what is not for here: a body that is large, comes in
chunks or is waited for with `100 Continue`, and a client that reads more slowly than it asks. The connection keeps order,
limits and disconnects for both alike.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from maas.api.body import check_length
from maas.api.codec import SMALL, Codec, is_large
from maas.api.door import Door
from maas.api.exchange import Exchange, Reply
from maas.api.operation import Call, Payload
from maas.api.request_id import new_request_id
from maas.api.routes import Target
from maas.api.terms import Asked
from maas.batching.request import Outcome, Request
from maas.edge.head import Head
from maas.errors import MaasError
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder
from maas.types import Answer

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
        return length <= (SMALL if asked.json_size is None else _SMALL_RAW)

    def enter(self, cycle: Cycle, body: bytes) -> Passage:
        """Begin a request whose body is whole. It may be answered when this returns."""
        target, asked = cycle.head.target, cycle.head.asked
        assert target is not None
        assert asked is not None
        passage = Passage(self, cycle, target, asked)
        passage.begin(target, asked, body)
        return passage


class Passage(Exchange[Any]):
    """An exchange in the lane; it replies to its cycle, once, unless it is abandoned."""

    __slots__ = ("_call", "_cycle", "_is_over", "_lane", "_request", "_writing")

    _call: Call[Any]

    def __init__(self, lane: Lane, cycle: Cycle, target: Target, asked: Asked) -> None:
        started = time.monotonic() - cycle.late
        request_id = asked.request_id or new_request_id()
        super().__init__(lane.gateway, lane.recorder, target.operation, request_id, started)
        self._lane = lane
        self._cycle = cycle
        self._is_over = False
        self._request: Request | None = None
        self._writing: asyncio.Task[None] | None = None
        lane.in_flight += 1

    def begin(self, target: Target, asked: Asked, body: bytes) -> None:
        try:
            live = self.open(target.model, target.version)
            if live.batcher.has_refused and (refusal := self._refusal(live, asked)) is not None:
                self._reply(self.refused(refusal))
                return
            self.agree(asked)
            check_length(len(body), live.body_limit)
            self._call = self.operation.parse(live, Payload(body, asked.json_size))
            self._request = self.submit(self._call, self._complete)
        except Exception as error:
            self._reply(self.failed(error))

    def _refusal(self, live: LiveVersion, asked: Asked) -> MaasError | None:
        return self._lane.door.refusal_by(live, asked, self._cycle.late)

    def abandon(self) -> None:
        """The caller has left."""
        if self._is_over:
            return
        self._end()
        if self._writing is not None:
            self._writing.cancel()
        if self._request is not None and not self._request.is_done:
            self.live.batcher.abandon(self._request)

    def _complete(self, outcome: Outcome) -> None:
        """Called by the batcher, which nothing that goes wrong here may reach."""
        if isinstance(outcome, Exception):
            self._reply(self.failed(outcome))
        elif is_large(outcome) and not self.operation.gives_raw(self._call.form):
            connection = self._cycle.connection
            self._writing = connection.loop.create_task(self._write_elsewhere(outcome))
            connection.tasks.add(self._writing)
            self._writing.add_done_callback(connection.tasks.discard)
        else:
            self._reply(self._render(outcome))

    def _render(self, answer: Answer) -> Reply:
        try:
            payload = self.operation.render(self.live, self._call.form, answer)
            return self.answered(answer, payload)
        except Exception as error:
            return self.failed(error)

    async def _write_elsewhere(self, answer: Answer) -> None:
        """A large answer is written by a process of its own, and not in one go."""
        codec, form = self._lane.codec, self._call.form
        deadline = self.terms.deadline_for(self.live)
        try:
            payload = await codec.render(self.operation, self.live, form, answer, deadline)
            reply = self.answered(answer, payload)
        except Exception as error:
            reply = self.failed(error)
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        if not self._is_over:
            self._end()
            self._cycle.reply(reply, self.request_id)

    def _end(self) -> None:
        self._is_over = True
        self._lane.in_flight -= 1
