"""The door: what is decided of an inference request by its head alone, before it is routed and its body is read.

Under overload most of what comes is refused, and refusing must cost next to nothing: a path is parsed once, and from
then on it is a look-up of the version it means and a question to that version's batcher. Which paths are meant here is
as `maas.api.app` routes them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from maas.api import native, open_inference
from maas.api.terms import check_priority, check_timeout
from maas.batching.priority import Priority
from maas.errors import Draining, InvalidRequest, MaasError, QueueFull
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.telemetry.metrics import Labels
from maas.telemetry.requests import RequestRecorder

_INFERENCE = re.compile(
    r"/predict/([^/]+)(?:/versions/([^/]+))?|/v2/models/([^/]+)(?:/versions/([^/]+))?/infer"
)
LATE = "maas.late"
"""Where a request's scope has how many seconds ago it came, where it was not looked at at once."""
_REMEMBERED_PATHS = 4096
_REMEMBERED_LENGTH = 256  # characters; no path of a version that is served is longer
_RETRY_SECONDS = 1.0  # where the server as a whole is full, no queue says when it will not be

Meant = tuple[str, str | None]
"""A model's name, and the version where the path names one."""


def render_error(path: str, error: MaasError, request_id: str) -> bytes:
    """The body that says `error` in the dialect of `path`; the native one where the path is of none."""
    render = open_inference.render_error if f"{path}/".startswith("/v2/") else native.render_error
    return render(error, request_id)


class Door:
    """`most_requests` is how many inference requests the server holds at once, over all models; it may be set anew."""

    def __init__(self, gateway: Gateway, recorder: RequestRecorder, most_requests: int) -> None:
        self._gateway = gateway
        self._recorder = recorder
        self.most_requests = most_requests
        self._meant: dict[str, Meant | None] = {}
        self._begun: dict[LiveVersion, int] = {}  # requests let in, in this pass of the loop

    def refusal(
        self, path: str, in_flight: int, headers: Iterable[tuple[bytes, bytes]] = (), late: float = 0.0
    ) -> MaasError | None:
        """Why the request, which came `late` seconds ago, is not taken now, where `in_flight` others are; None where it is
        to be routed."""
        meant = self._parse(path)
        if meant is None:
            return None
        if self._gateway.is_draining:
            return Draining("the server is shutting down")
        if in_flight >= self.most_requests:
            return QueueFull(
                f"the server holds {in_flight} requests; it takes {self.most_requests}",
                retry_after=_RETRY_SECONDS,
            )
        live = self._resolve(meant)
        if live is None:
            return None
        refusal = live.batcher.refusal() or self._unreachable(live, headers, late)
        if refusal is None:
            self._note_begun(live)
        return refusal

    def turned_away(self, path: str, outcome: str) -> None:
        """Count a request that ended before any endpoint knew of it, or whose caller has left."""
        meant = self._parse(path)
        if meant is not None:
            live = self._resolve(meant)
            labels: Labels | None = (live.name, live.version) if live is not None else None
            self._recorder.turned_away(labels, outcome)

    def _unreachable(
        self, live: LiveVersion, headers: Iterable[tuple[bytes, bytes]], late: float
    ) -> MaasError | None:
        """Whether the model is too busy for the time that it, or the head, gives the request; what stands in its body is not
        known here. Terms that cannot be read are for the endpoint to refuse."""
        timeout, priority = live.request_timeout, Priority.STANDARD
        try:
            for name, value in headers:
                if name == b"x-request-timeout":
                    timeout = min(
                        timeout, check_timeout(value.decode("latin-1"), "X-Request-Timeout", "seconds")
                    )
                elif name == b"x-request-priority":
                    priority = check_priority(value.decode("latin-1"))
        except InvalidRequest:
            return None
        return live.batcher.unreachable(timeout - late, priority, self._begun.get(live, 0))

    def _note_begun(self, live: LiveVersion) -> None:
        """It will be in the queue only when its task has run, after the reads of this pass of the loop: until then those
        that come behind it must know of it."""
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._begun.clear)
        self._begun[live] = self._begun.get(live, 0) + 1

    def _resolve(self, meant: Meant) -> LiveVersion | None:
        try:
            return self._gateway.resolve(*meant)
        except MaasError:
            return None  # that it is not there, or cannot be read, is for the endpoint to say

    def _parse(self, path: str) -> Meant | None:
        try:
            return self._meant[path]
        except KeyError:
            meant = _parse(path)
            if len(self._meant) >= _REMEMBERED_PATHS:
                self._meant.clear()
            if len(path) <= _REMEMBERED_LENGTH:
                self._meant[path] = meant
            return meant


def _parse(path: str) -> Meant | None:
    match = _INFERENCE.fullmatch(path)
    if match is None:
        return None
    name, version, v2_name, v2_version = match.groups()
    return name or v2_name, version or v2_version
