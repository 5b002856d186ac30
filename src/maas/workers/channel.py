"""Frames and file descriptors over one end of a socket pair: blocking in a child, on the event loop in the gateway."""

from __future__ import annotations

import asyncio
import os
import socket
from array import array
from collections.abc import Callable, Sequence

from maas.workers.frames import MAX_FRAME, AnyFrame, Frame, decode, encode

_MAX_DESCRIPTORS = 4


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that keep message boundaries; neither is inherited by what a child executes."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, frame: Frame, descriptors: Sequence[int] = ()) -> None:
    """Send one frame. Raises `OSError` where the other end is gone, `ValueError` where the frame is too large."""
    message = encode(frame)
    if descriptors:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        sock.sendmsg([message], ancillary, socket.MSG_NOSIGNAL)
    else:
        sock.send(message, socket.MSG_NOSIGNAL)


def new_buffer() -> bytearray:
    """Room for one frame, to be used over and over: to ask for it anew takes ten times as long as to receive."""
    return bytearray(MAX_FRAME)


def receive(sock: socket.socket, buffer: bytearray | None = None) -> tuple[AnyFrame, list[int]] | None:
    """The next frame with the descriptors beside it, now the caller's to close; None when the other end is closed. What was
    in `buffer`, where one is given, is overwritten.

    Raises `OSError` where part of it was cut off: a process that is out of descriptors is not given one that it was sent,
    and without its slab it would read another's tensors.
    """
    space = socket.CMSG_LEN(_MAX_DESCRIPTORS * array("i").itemsize)
    buffer = new_buffer() if buffer is None else buffer
    size, ancillary, flags, _ = sock.recvmsg_into([buffer], space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        close_all(descriptors)
        raise OSError("a frame, or a descriptor beside it, was cut off")
    # A copy, for a frame may hold parts of it undecoded.
    return (decode(bytes(memoryview(buffer)[:size])), list(descriptors)) if size else None


class Channel:
    """The gateway's end of a socket pair, read by the event loop.

    `on_frame` is called for each frame with the descriptors beside it, which it must close; `on_close` once, when
    the other end is gone or what it says cannot be read.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_frame: Callable[[AnyFrame, list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._buffer = new_buffer()
        self._on_frame = on_frame
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, frame: Frame, descriptors: Sequence[int] = ()) -> None:
        """Raises `OSError` where the other end is gone or has stopped reading, or the channel is closed."""
        send(self._sock, frame, descriptors)

    def close(self) -> None:
        """Stop reading and close; `on_close` is not called."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _read(self) -> None:
        try:
            received = receive(self._sock, self._buffer)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            received = None
        if received is None:
            self.close()
            self._on_close()
        else:
            self._on_frame(*received)


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
