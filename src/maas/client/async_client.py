"""The awaited client: `sync_client` once more, on asyncio."""

# ruff: noqa: ASYNC109 -- a timeout here spans attempts and pauses, and one argument serves both clients

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
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
from maas.client.transport import DEFAULT_URL, LIMITS, parse_url, past_proxies, transport_errors
from maas.errors import DeadlineExceeded, InvalidRequest, MaasError, Unavailable

T = TypeVar("T")


class AsyncClient:
    """Calls the server at `url` as `Client` does, with the same options, for the tasks of one event loop.

    Cancelling a call closes its connection, by which the server learns that nobody waits any more.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        connect_timeout: float = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        address = parse_url(url)
        self._server = shown(address)
        self._policy = AttemptPolicy(timeout, retries, connect_timeout, clock, jitter)
        self._sleep = sleep
        self._signatures: dict[tuple[str, str | None], RawSignature | None] = {}
        self._http = httpx.AsyncClient(
            base_url=address,
            limits=LIMITS,
            timeout=httpx.Timeout(None, connect=connect_timeout),  # the rest is `asyncio.timeout`'s
            transport=transport,
            mounts=past_proxies(address),
        )

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        version: str | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Run `model` on `inputs`; what goes in, comes out and is raised is as with `Client.predict`."""
        if may_pay(inputs):
            began = self._policy.clock()
            prediction = await self._predict_raw(model, inputs, version, timeout, request_id)
            if prediction is not None:
                return prediction
            timeout = self._policy.left(timeout, began)
        call = predict_call(model, inputs, version=version, request_id=request_id)
        return await self._run(call, timeout)

    async def models(self, *, timeout: float | None = None) -> list[dict[str, object]]:
        """The versions that the server knows: `name`, `version`, `state`, `default` of each."""
        return await self._run(models_call(), timeout)

    async def model(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> dict[str, object]:
        """What the server says of one model: `inputs`, `outputs`, `state`, `card`; raises `ModelNotFound`."""
        return await self._run(model_call(name, version), timeout)

    async def load(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> dict[str, object]:
        """Have the server serve a version, by default the highest it has, and wait until it is ready or failed: its
        `state`, and the `reason`. Give it the time that loading takes. Raises `ModelNotFound`, `BadArtifact`, `Forbidden`."""
        return await self._run(load_call(name, version), timeout)

    async def unload(
        self, name: str, version: str | None = None, *, timeout: float | None = None
    ) -> list[dict[str, object]]:
        """Have the server drain a version, or all of a model; those it drains. Raises `ModelNotFound`, `Forbidden`."""
        return await self._run(unload_call(name, version), timeout)

    async def refresh(self, *, timeout: float | None = None) -> list[dict[str, object]]:
        """Have the server look at its repository again; the versions that it then has. Raises `Forbidden`."""
        return await self._run(refresh_call(), timeout)

    async def is_live(self, *, timeout: float | None = None) -> bool:
        """Whether the server answers; asked once, and no answer is a no."""
        return await self._holds(health_call("live"), timeout)

    async def is_ready(self, *, timeout: float | None = None) -> bool:
        """Whether the server may be sent requests; asked once, and no answer is a no."""
        return await self._holds(health_call("ready"), timeout)

    async def aclose(self) -> None:
        """Close the connections; the client is of no use afterwards."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._server}>"

    async def _predict_raw(
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
            self._signatures[key] = await self._run(signature_call(model, version), timeout)
        if (signature := self._signatures[key]) is None:
            return None
        call = raw_predict_call(signature, model, inputs, version=version, request_id=request_id)
        if call is None:
            return None
        try:
            return await self._run(call, self._policy.left(timeout, began))
        except InvalidRequest as problem:
            if type(problem) is not InvalidRequest:
                raise
            self._signatures.pop(key, None)
            return None

    async def _run(self, call: Call[T], timeout: float | None) -> T:
        attempts = self._policy.begin(call, timeout)
        while True:
            try:
                return call.read(await self._exchange(call, attempts))
            except MaasError as problem:
                may_run_again = await self._may_run_again(call, attempts, problem)
                if (pause := attempts.pause_after(problem, may_run_again=may_run_again)) is None:
                    raise
            await self._sleep(pause)

    async def _may_run_again(self, call: Call[T], attempts: Attempts, problem: MaasError) -> bool:
        """Asked of the server only now, so that it costs the calls that succeed nothing; no answer is a no."""
        if call.idempotence is None or not attempts.is_in_doubt(problem):
            return False
        try:
            return call.idempotence.read(await self._exchange(call.idempotence, attempts))
        except MaasError:
            return False

    async def _holds(self, call: Call[bool], timeout: float | None) -> bool:
        try:
            return await self._run(call, timeout)
        except (Unavailable, DeadlineExceeded):
            return False

    async def _exchange(self, call: Call[T], attempts: Attempts) -> Reply:
        with transport_errors(call, self._server, attempts):
            async with asyncio.timeout(attempts.remaining):
                response = await self._http.request(
                    call.method, call.path, content=call.body, headers=attempts.headers_of(call)
                )
        return call.reply(response, response.content)
