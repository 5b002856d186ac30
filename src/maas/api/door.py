"""The door: what is decided of an inference request by its head alone, before it is routed and its body is read.

Under overload most of what comes is refused, and refusing must cost next to nothing: it is a look-up of the version that is
meant and a question to that version's batcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from maas.api import listing, native, v1
from maas.api.oip import infer
from maas.api.routes import Target
from maas.api.terms import Asked
from maas.errors import Draining, MaasError, QueueFull
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.telemetry.requests import RequestRecorder

_RETRY_SECONDS = 1.0  # where the server as a whole is full, no queue says when it will not be


def render_error(path: str, error: MaasError, request_id: str) -> bytes:
    """The body that says `error` in the dialect of `path`; the native one where the path is of none."""
    return _renderer_for(path)(error, request_id)


def _renderer_for(path: str) -> Callable[[MaasError, str], bytes]:
    if f"{path}/".startswith("/v2/"):
        return infer.render_error
    if f"{path}/".startswith("/v1/"):
        names_verb = ":" in path.rpartition("/")[2]  # `predict`, or another of V1's that is not served
        return v1.render_error if names_verb else listing.render_error
    return native.render_error


class Door:
    """`most_requests` is how many inference requests the server holds at once, over all models; it may be set anew. `elsewhere`
    are those that came by another way than the caller of `closed` knows of."""

    def __init__(self, gateway: Gateway, recorder: RequestRecorder, most_requests: int) -> None:
        self._gateway = gateway
        self._recorder = recorder
        self.most_requests = most_requests
        self.elsewhere = 0
        self._begun: dict[LiveVersion, int] = {}  # requests let in, in this pass of the loop

    def refusal(self, target: Target, asked: Asked | None, late: float = 0.0) -> MaasError | None:
        """Why the request, which came `late` seconds ago, is not taken now by the version that it means; None where it is to go
        on. What it asks for is None where that cannot be read: this is for the endpoint to say."""
        live = self._resolve(target)
        if live is None:
            return None
        refusal = self.refusal_by(live, asked, late, self._begun.get(live, 0))
        if refusal is None:
            self._note_begun(live)
        return refusal

    def closed(self, in_flight: int) -> MaasError | None:
        """Why nobody is let in: the server is draining, or holds `in_flight` requests, and those elsewhere, and takes no more."""
        if self._gateway.is_draining:
            return Draining("the server is shutting down")
        in_flight += self.elsewhere
        if in_flight < self.most_requests:
            return None
        many = f"the server holds {in_flight} requests; it takes {self.most_requests}"
        return QueueFull(many, retry_after=_RETRY_SECONDS)

    def refusal_by(
        self, live: LiveVersion, asked: Asked | None, late: float, begun: int = 0
    ) -> MaasError | None:
        """Why `live` does not take a request that came `late` seconds ago, behind what it has and `begun` more: because it
        is full, or too busy for the time that it, or the head, gives the request. What stands in its body is not known."""
        if asked is None:
            return live.batcher.refusal()
        timeout = min(live.request_timeout, asked.timeout) - late
        return live.batcher.refusal() or live.batcher.unreachable(timeout, asked.priority, begun)

    def turned_away(self, target: Target | None, outcome: str) -> None:
        """Count a request that ended before any endpoint knew of it, or whose caller has left, if it was for inference."""
        if target is not None:
            live = self._resolve(target)
            self._recorder.turned_away(live.labels if live is not None else None, outcome)

    def _note_begun(self, live: LiveVersion) -> None:
        """It will be in the queue only when its task has run, after the reads of this pass of the loop: until then those
        that come behind it must know of it."""
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._begun.clear)
        self._begun[live] = self._begun.get(live, 0) + 1

    def _resolve(self, target: Target) -> LiveVersion | None:
        try:
            return self._gateway.resolve(target.model, target.version)
        except MaasError:
            return None  # that it is not there, or cannot be read, is for the endpoint to say
