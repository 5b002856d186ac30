"""What the two clients share of httpx: where a server is, how long each phase may wait, whose error it was."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from maas.client.attempts import Attempts
from maas.client.calls import Call
from maas.errors import (
    ConnectionLost,
    DeadlineExceeded,
    InvalidRequest,
    MaasError,
    ServerUnreachable,
    Unavailable,
)

DEFAULT_URL = "http://127.0.0.1:8000"
LIMITS = httpx.Limits(max_connections=100)  # a call beyond these waits for one of them, within its timeout

_SHORTEST_WAIT = 0.001  # seconds; a socket takes 0 for "do not wait at all"


def parse_url(url: str) -> httpx.URL:
    """The address of a server; raises `InvalidRequest` if `url` is none."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequest(f"{url!r} is no URL of a server; expected one such as http://127.0.0.1:8000")
    return parsed


def past_proxies(server: httpx.URL) -> dict[str, None]:
    """httpx's mounts that pass HTTP_PROXY and its like by for `server` on a loopback address, where no proxy has a way."""
    try:
        is_loopback = ipaddress.ip_address(server.host).is_loopback
    except ValueError:
        is_loopback = server.host == "localhost"
    return {"http://": None, "https://": None} if is_loopback else {}


class PhaseTimeouts(dict[str, float]):
    """What httpx's transport asks, as each phase of an exchange begins, for how long that phase may wait.

    The answer is worked out when asked, so connecting, sending and waiting share one deadline.
    """

    def __init__(self, attempts: Attempts) -> None:
        super().__init__(dict.fromkeys(("pool", "connect", "write", "read"), attempts.timeout))
        self._attempts = attempts

    def get(self, phase: str, _default: object = None) -> float:
        wait = max(self._attempts.remaining, _SHORTEST_WAIT)
        return min(wait, self._attempts.policy.connect_timeout) if phase == "connect" else wait


@contextmanager
def transport_errors(call: Call[object], server: str, attempts: Attempts) -> Iterator[None]:
    """Raise what goes wrong on the way to `server` and back as an error of our tree, with the call's id."""
    try:
        yield
    except (httpx.HTTPError, TimeoutError) as error:
        problem = _translate(error, server, attempts)
        problem.request_id = call.request_id
        raise problem from error


def _translate(error: Exception, server: str, attempts: Attempts) -> MaasError:
    why = str(error) or type(error).__name__
    match error:
        case httpx.ConnectTimeout() if attempts.remaining > 0:
            return ServerUnreachable(
                f"no connection to {server} within {attempts.policy.connect_timeout:g} s"
            )
        case httpx.TimeoutException() | TimeoutError():
            return DeadlineExceeded(f"no answer from {server} within {attempts.timeout:g} s")
        case httpx.ConnectError() | httpx.ProxyError():
            return ServerUnreachable(f"no connection to {server}: {why}")
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return InvalidRequest(f"the request cannot be sent to {server}: {why}")
        case httpx.TransportError():
            return ConnectionLost(f"the connection to {server} broke before its answer was complete: {why}")
        case _:
            return Unavailable(f"the answer of {server} cannot be read: {why}")
