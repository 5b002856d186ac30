"""The hand-over: a new server takes the listening socket of a running one, and its place when it is ready.

    successor                        predecessor
       │── connects ────────────────────▶│  serves on
       │◀── Offer, with the socket ──────│
       │  loads its models               │
       │── Ready ───────────────────────▶│  stops accepting; the kernel holds who comes
       │◀── Released ────────────────────│
       │  accepts                        │
       │── Serving ─────────────────────▶│  sends its callers away, drains, ends

Until it has heard `Serving` the predecessor can go on: a successor that fails or dies anywhere before leaves it as it was. A
predecessor that dies leaves the successor the socket, which it serves when it is ready. At every moment one of the two holds
the socket, so no connection is refused.

The two meet at an abstract Unix socket, which has no file to leave behind; each holds the other to its user.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from array import array
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import structlog

from maas.config import ServerOptions
from maas.errors import ConfigurationError, Forbidden, Unavailable
from maas.server.http import HttpServer

_PROTOCOL = 1  # is part of the address: servers that would not understand each other do not meet
_MAX_MESSAGE = 4096  # bytes
_ANSWER_SECONDS = 10.0  # that a predecessor may take to answer; it may be busy
_CONFIRM_SECONDS = 5.0  # that a successor may take to accept once it may
_PAUSE_SECONDS = 1.0  # before the next try where no descriptor is to be had


class Message(msgspec.Struct, frozen=True, tag=True):
    """Anything that may be said."""


class Offer(Message, frozen=True, tag=True):
    """The listening socket travels beside it."""


class Ready(Message, frozen=True, tag=True):
    """The models are loaded: the successor could serve now."""


class Released(Message, frozen=True, tag=True):
    """The predecessor accepts no more: the successor must now."""


class Serving(Message, frozen=True, tag=True):
    """The successor accepts: the predecessor may go."""


class Refusal(Message, frozen=True, tag=True):
    """The predecessor stays."""

    reason: str


AnyMessage = Offer | Ready | Released | Serving | Refusal
M = TypeVar("M", Offer, Ready, Released, Serving)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


class OutOfPlace(ValueError):
    """The other side says what it should not say now."""


class _Gone(OutOfPlace):
    """It says nothing any more."""


class Succession:
    """The predecessor's side. `is_done` is set when a successor serves in our place."""

    def __init__(self, sock: socket.socket, http: HttpServer) -> None:
        self.is_done = asyncio.Event()
        self._sock = sock
        self._http = http
        self._is_busy = False
        self._log = structlog.get_logger("maas.server")

    async def serve(self) -> None:
        """Wait for successors, one at a time, and return when one has taken over."""
        try:
            listener = _listen()
        except OSError as error:
            self._log.warning("take_over_impossible", reason=error.strerror)
            return
        with listener:
            async with asyncio.TaskGroup() as group:
                accepting = group.create_task(self._accept(listener, group))
                await self.is_done.wait()
                accepting.cancel()

    async def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                conn, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._log.warning("take_over_impossible", reason=error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            conn.setblocking(False)
            if reason := self._refusal(conn):
                _refuse(conn, reason)
            else:
                self._is_busy = True
                group.create_task(self._hand_over(conn))

    def _refusal(self, conn: socket.socket) -> str:
        _, user = _peer(conn)
        if user not in (os.geteuid(), 0):
            return f"it belongs to user {os.geteuid()}, not to user {user}"
        if self._is_busy or self.is_done.is_set():
            return "another server is taking it over"
        return ""

    async def _hand_over(self, conn: socket.socket) -> None:
        pid, _ = _peer(conn)
        self._log.info("successor_starts", pid=pid)
        try:
            with conn:
                await self._negotiate(conn)
        except (OSError, ValueError) as error:
            self._log.warning("successor_failed", pid=pid, reason=str(error) or type(error).__name__)
        else:
            self._log.info("successor_serves", pid=pid)
            self.is_done.set()
        finally:
            self._is_busy = False

    async def _negotiate(self, conn: socket.socket) -> None:
        """Return when the successor serves. Raises `OSError` or `ValueError` where it does not; then we do."""
        _say(conn, Offer(), self._sock)
        await _expect(conn, Ready)
        spare = self._sock.dup()  # now, for it must not fail when it is needed
        self._http.stop_accepting()
        try:
            _say(conn, Released())
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await _expect(conn, Serving)
        except (OSError, ValueError):
            await self._http.accept(spare)
            with suppress(OSError):
                _say(conn, Refusal("it serves on: its successor did not say in time that it serves"))
            raise
        spare.close()


class Predecessor:
    """The successor's side. `sock` is the listening socket, now ours to close."""

    def __init__(self, pid: int, conn: socket.socket, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        self._conn = conn

    async def relieve(self, accept: Callable[[], Awaitable[None]]) -> None:
        """Take its place by `accept`, which is called when it accepts no more, or is gone. Raises `Unavailable` where it
        stays after all."""
        self._conn.setblocking(False)
        with self._conn:
            try:
                await self._claim()
                await accept()
                await self._confirm()
            except ValueError as error:
                raise Unavailable(f"process {self.pid} is not taken over: {error}") from error

    async def _claim(self) -> None:
        """Return when it has let go of the socket. One that is gone has done that too."""
        try:
            _say(self._conn, Ready())
            async with asyncio.timeout(_ANSWER_SECONDS):
                await _expect(self._conn, Released)
        except TimeoutError as error:
            raise OutOfPlace(f"it did not answer within {_ANSWER_SECONDS:g} s") from error
        except (OSError, _Gone):
            pass

    async def _confirm(self) -> None:
        """Return when it knows that we serve. One that has given us up in the meantime says so, and raises here."""
        with suppress(OSError):
            _say(self._conn, Serving())
        with suppress(OSError, _Gone):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await _expect(self._conn, Released)  # it says nothing, and closes


def meet(pid: int, options: ServerOptions) -> Predecessor:
    """The running server `pid`, which has given us its socket and serves on. Raises `Unavailable` or `Forbidden` where there
    is none that would, `ConfigurationError` where its address is not the one in `options`."""
    conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        conn.settimeout(_ANSWER_SECONDS)
        sock = _receive_offer(conn, pid)
    except BaseException:
        conn.close()
        raise
    try:
        _check_address(sock, options)
    except BaseException:
        conn.close()
        sock.close()
        raise
    return Predecessor(pid, conn, sock)


def _receive_offer(conn: socket.socket, pid: int) -> socket.socket:
    try:
        conn.connect(_address(pid))
        found, user = _peer(conn)
        if found != pid or (user != os.geteuid() and os.geteuid() != 0):
            raise Forbidden(f"process {found} of user {user} poses as server {pid}")
        message, descriptors = _hear_with_descriptors(conn)
    except (OSError, ValueError) as error:
        raise Unavailable(f"process {pid} cannot be taken over: {_why(error, pid)}") from error
    if isinstance(message, Refusal):
        raise Unavailable(f"process {pid} cannot be taken over: {message.reason}")
    if len(descriptors) != 1:
        raise Unavailable(f"process {pid} cannot be taken over: it gave no socket")
    return socket.socket(fileno=descriptors[0])


def _why(error: Exception, pid: int) -> str:
    if isinstance(error, ConnectionRefusedError):
        is_there = os.path.exists(f"/proc/{pid}")
        return "it is no server that hands over its socket" if is_there else "there is no such process"
    return str(error)


def _check_address(sock: socket.socket, options: ServerOptions) -> None:
    """Raise `ConfigurationError` unless `options` mean the address that the socket is bound to."""
    host, port = sock.getsockname()[:2]
    try:
        any_host = "0.0.0.0" if sock.family == socket.AF_INET else "::"  # noqa: S104 - what "" means when it is bound
        found = socket.getaddrinfo(options.host or any_host, None, sock.family)
        hosts = {address[0] for *_, address in found}
    except OSError:
        hosts = {options.host}
    if host not in hosts or options.port not in (0, port):
        raise ConfigurationError(
            f"server: the running server listens on {host}:{port}; the configuration says {options.host}:{options.port}"
        )


# ── the meeting place ────────────────────────────────────────────────────────────────────────────────────────


def _address(pid: int) -> str:
    """Of the server `pid`: abstract, so that it is gone with its process; a pid means something in its namespace only."""
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return f"\0maas-hand-over-{_PROTOCOL}-{namespace}-{pid}"


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(_address(os.getpid()))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _peer(conn: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, by the kernel's word."""
    credentials = struct.Struct("3i")  # pid, uid, gid
    pid, user, _ = credentials.unpack(
        conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    )
    return pid, user


def _say(conn: socket.socket, message: Message, sock: socket.socket | None = None) -> None:
    """Send a message, with a descriptor of `sock` beside it. Raises `OSError` where the other side is gone."""
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [sock.fileno()]))] if sock is not None else []
    conn.sendmsg([_encoder.encode(message)], beside, socket.MSG_NOSIGNAL)


def _refuse(conn: socket.socket, reason: str) -> None:
    with conn, suppress(OSError):
        _say(conn, Refusal(reason))


async def _expect(conn: socket.socket, kind: type[M]) -> M:
    """The next message. Raises `OutOfPlace` where it is none of `kind`, with the reason where it is a refusal, and `_Gone` where
    there is none."""
    data = await asyncio.get_running_loop().sock_recv(conn, _MAX_MESSAGE)
    if not data:
        raise _Gone("it has gone")
    message = _decoder.decode(data)
    if isinstance(message, Refusal):
        raise OutOfPlace(message.reason)
    if not isinstance(message, kind):
        raise OutOfPlace(f"it said {type(message).__name__} in place of {kind.__name__}")
    return message


def _hear_with_descriptors(conn: socket.socket) -> tuple[AnyMessage, array[int]]:
    space = socket.CMSG_LEN(array("i").itemsize)
    data, beside, _, _ = conn.recvmsg(_MAX_MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise _Gone("it has gone")
    descriptors = array("i")
    for _, _, content in beside:
        descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return _decoder.decode(data), descriptors
