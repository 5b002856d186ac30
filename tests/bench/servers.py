"""Small real HTTP servers for the load generator, each in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Headers = dict[str, str]
Answer = Callable[[str, Headers, bytes], Awaitable[bytes]]
"""Path, headers by lower-case name, and body of a request, to a whole answer."""


def ok(body: bytes = b"{}", *headers: str) -> bytes:
    return reply("200 OK", body, *headers)


def reply(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Service:
    port: int
    requests: int = 0
    scheme: str = "http"
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


CERTIFICATE = Path(__file__).parent.parent / "assets/tls/certificate.pem"
"""Signed by itself for localhost, from 2020 to 2120; its key is public and good for nothing else."""


@contextmanager
def answering(answer: Answer, *, is_secured: bool = False) -> Iterator[Service]:
    """A server on a port of its own; an answer with `Connection: close`, or an empty one, ends the connection. Where it is
    secured it is reached as localhost over TLS."""
    loop = asyncio.new_event_loop()
    service = Service(0, scheme="https", host="localhost") if is_secured else Service(0)
    context = _context() if is_secured else None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (each.partition(": ") for each in fields)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                service.requests += 1
                content = await answer(line.split()[1], headers, body)
                writer.write(content)
                if not content or b"Connection: close" in content:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's own callback of Python 3.11 stumbles over a handler that was cancelled
        finally:
            writer.close()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(serve, "127.0.0.1", 0, ssl=context), loop
    ).result(10)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
    return context


async def _end(server: asyncio.Server) -> None:
    server.close()
    await asyncio.sleep(0.01)  # who was accepted last gets a handler, which closes the connection
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)  # transports are closed in the loop's next passes
