"""The blocking client. It performs calls; what they say is in `calls`, what may be repeated in `attempts`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar

import httpx

from maas.client.attempts import AttemptPolicy, Attempts
from maas.client.calls import (
    Call,
    Prediction,
    health_call,
    load_call,
    model_call,
    models_call,
    predict_call,
    raw_predict_call,
    refresh_call,
    shown,
    signature_call,
    unload_call,
)
from maas.client.raw import RawSignature, may_pay
from maas.client.replies import Reply
from maas.client.transport import (
    DEFAULT_URL,
    LIMITS,
    PhaseTimeouts,
    parse_url,
    past_proxies,
    transport_errors,
)
from maas.errors import DeadlineExceeded, InvalidRequest, MaasError, Unavailable

T = TypeVar("T")


class Client:
    """Calls the server at `url`. One client keeps its connections open and may be shared by threads.

    `timeout`, in seconds, is for a whole call with its `retries` (attempts after the first) and the pauses between
    them; `connect_timeout` is for one connection. `transport`, `clock`, `sleep` and `jitter` stand in for network,
    time and chance in tests. Raises `InvalidRequest` if an option makes no sense.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY are obeyed, but for a server on a loopback address.
    An answer that arrives in pieces is cut off at the first piece after the deadline.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        connect_timeout: float = 5.0,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        address = parse_url(url)
        self._server = shown(address)
        self._policy = AttemptPolicy(timeout, retries, connect_timeout, clock, jitter)
        self._sleep = sleep
        self._signatures: dict[tuple[str, str | None], RawSignature | None] = {}
        self._http = httpx.Client(
            base_url=address, limits=LIMITS, transport=transport, mounts=past_proxies(address)
        )

    def predict(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        version: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Run `model` on `inputs`, by name: arrays, nested lists, scalars, `str` or UTF-8 `bytes`.

        Values of the declared rank are a batch, of one rank lower a single sample; the outputs mirror that. The
        default version is the server's. An array of 16 KB or more goes, and comes back, as raw bytes instead of JSON; values,
        dtypes and errors are the same. `request_id` names the call in the server's log; without one it is made.
        Raises `InvalidRequest`, `ModelNotFound`, `QueueFull`, `Unavailable`, `DeadlineExceeded`, `ModelFailed`.
        """
        if may_pay(inputs):
            began = self._policy.clock()
            prediction = self._predict_raw(model, inputs, version, timeout, request_id)
            if prediction is not None:
                return prediction
            timeout = self._policy.left(timeout, began)
        call = predict_call(model, inputs, version=version, request_id=request_id)
        return self._run(call, timeout)

    def models(self, *, timeout: float | None = None) -> list[dict[str, object]]:
        """The versions that the server knows: `name`, `version`, `state`, `default` of each."""
        return self._run(models_call(), timeout)

    def model(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> dict[str, object]:
        """What the server says of one model: `inputs`, `outputs`, `state`, `card`; raises `ModelNotFound`."""
        return self._run(model_call(name, version), timeout)

    def load(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> dict[str, object]:
        """Have the server serve a version, by default the highest it has, and wait until it is ready or failed: its
        `state`, and the `reason`. Give it the time that loading takes. Raises `ModelNotFound`, `BadArtifact`, `Forbidden`."""
        return self._run(load_call(name, version), timeout)

    def unload(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> list[dict[str, object]]:
        """Have the server drain a version, or all of a model; those it drains. Raises `ModelNotFound`, `Forbidden`."""
        return self._run(unload_call(name, version), timeout)

    def refresh(self, *, timeout: float | None = None) -> list[dict[str, object]]:
        """Have the server look at its repository again; the versions that it then has. Raises `Forbidden`."""
        return self._run(refresh_call(), timeout)

    def is_live(self, *, timeout: float | None = None) -> bool:
        """Whether the server answers; asked once, and no answer is a no."""
        return self._holds(health_call("live"), timeout)

    def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server may be sent requests; asked once, and no answer is a no."""
        return self._holds(health_call("ready"), timeout)

    def close(self) -> None:
        """Close the connections; the client is of no use afterwards."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._server}>"

    def _predict_raw(
        self,
        model: str,
        inputs: Mapping[str, object],
        version: str | None,
        timeout: float | None,
        request_id: str | None,
    ) -> Prediction | None:
        """The answer by raw tensors, or None where the call is one for JSON. A request that is refused as wrong may only not fit
        a signature that has changed since: JSON tells what holds now."""
        began, key = self._policy.clock(), (model, version)
        if key not in self._signatures:
            self._signatures[key] = self._run(signature_call(model, version), timeout)
        if (signature := self._signatures[key]) is None:
            return None
        call = raw_predict_call(signature, model, inputs, version=version, request_id=request_id)
        if call is None:
            return None
        try:
            return self._run(call, self._policy.left(timeout, began))
        except InvalidRequest as problem:
            if type(problem) is not InvalidRequest:
                raise
            self._signatures.pop(key, None)
            return None

    def _run(self, call: Call[T], timeout: float | None) -> T:
        attempts = self._policy.begin(call, timeout)
        while True:
            try:
                return call.read(self._exchange(call, attempts))
            except MaasError as problem:
                may_run_again = self._may_run_again(call, attempts, problem)
                if (pause := attempts.pause_after(problem, may_run_again=may_run_again)) is None:
                    raise
            self._sleep(pause)

    def _may_run_again(self, call: Call[T], attempts: Attempts, problem: MaasError) -> bool:
        """Asked of the server only now, so that it costs the calls that succeed nothing; no answer is a no."""
        if call.idempotence is None or not attempts.is_in_doubt(problem):
            return False
        try:
            return call.idempotence.read(self._exchange(call.idempotence, attempts))
        except MaasError:
            return False

    def _holds(self, call: Call[bool], timeout: float | None) -> bool:
        try:
            return self._run(call, timeout)
        except (Unavailable, DeadlineExceeded):
            return False

    def _exchange(self, call: Call[T], attempts: Attempts) -> Reply:
        with (
            transport_errors(call, self._server, attempts),
            self._http.stream(
                call.method,
                call.path,
                content=call.body,
                headers=attempts.headers_of(call),
                extensions={"timeout": PhaseTimeouts(attempts)},
            ) as response,
        ):
            body = b"".join(attempts.in_time(response.iter_bytes()))
            return call.reply(response, body)
