"""Both clients behind one call, a clock that jumps, and a tiny real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from maas.client import AsyncClient, Client


class FakeTime:
    """Time that passes only when somebody sleeps, or when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Driver:
    """Asks one question with a new client, the blocking or the awaited one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, verb, *args, handler=None, time=None, options=None, **arguments):
        options = dict(options or {})
        if handler is not None:
            options["transport"] = httpx.MockTransport(handler)
        if time is not None:
            options |= {"clock": time.clock, "sleep": time.asleep if self.kind == "async" else time.sleep}
        if self.kind == "async":
            return asyncio.run(self._awaited(verb, args, options, arguments))
        with Client(**options) as client:
            return getattr(client, verb)(*args, **arguments)

    @staticmethod
    async def _awaited(verb, args, options, arguments):
        async with AsyncClient(**options) as client:
            return await getattr(client, verb)(*args, **arguments)


class ThreadedServer(ThreadingHTTPServer):
    daemon_threads = False  # closing it waits for its threads
    request_queue_size = 128  # as many connections as a test opens at once


class Loopback:
    """A real HTTP server on a free port; `script` answers each request, `stopped` ends what it waits for."""

    def __init__(self, script: Callable[[BaseHTTPRequestHandler, threading.Event], None]) -> None:
        self.stopped = threading.Event()
        self.paths: list[str] = []
        self.connections: set[tuple[str, int]] = set()
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5.0  # a connection that nobody closes ends all the same
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                loopback.paths.append(self.path)
                loopback.connections.add(self.client_address)
                self.body = self.rfile.read(int(self.headers.get("content-length", "0")))
                script(self, loopback.stopped)

            do_POST = do_GET  # noqa: N815 -- the name that http.server looks for

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadedServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def loopback() -> Iterator[Callable[..., Loopback]]:
    """Starts servers that end with the test."""
    started: list[Loopback] = []

    def start(script: Callable[[BaseHTTPRequestHandler, threading.Event], None]) -> Loopback:
        started.append(Loopback(script).__enter__())
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
