"""A network of two hosts whose link loses packets and takes its time: the kernel's own TCP on both ends, and this between.

Where the kernel has `netem`, `tc` could do the same; a relay between two TUN devices needs no module of it. One device
stays here, the other is moved into a network namespace of its own, in which commands are run with `ip netns exec`.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

HERE, THERE = "10.213.77.1", "10.213.77.2"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET = 65536


@dataclass
class LossyLink:
    """`loss` is the share of packets that do not arrive, `delay` the seconds that the others take, one way."""

    namespace: str
    loss: float
    delay: float
    sent: int = 0
    lost: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def under(self) -> list[str]:
        """The command that runs its arguments on the other host."""
        return ["ip", "netns", "exec", self.namespace]

    def relay(self, ours: int, theirs: int) -> None:
        """Carry packets both ways until stopped."""
        generator = random.Random(1)
        other = {ours: theirs, theirs: ours}
        flying: list[tuple[float, int, int, bytes]] = []
        while not self._stop.is_set():
            pause = max(0.0, flying[0][0] - time.monotonic()) if flying else 0.05
            readable, _, _ = select.select([ours, theirs], [], [], min(pause, 0.05))
            for end in readable:
                packet = os.read(end, _PACKET)
                self.sent += 1
                if generator.random() < self.loss:
                    self.lost += 1
                else:
                    due = time.monotonic() + self.delay
                    heapq.heappush(flying, (due, self.sent, other[end], packet))
            while flying and flying[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(flying)
                os.write(end, packet)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def lossy_link(loss: float, delay: float) -> Iterator[LossyLink]:
    """The link and the namespace behind it; skips where they may not be made."""
    namespace = f"maas-test-{os.getpid()}"
    with ExitStack() as undo:
        try:
            _ip("netns", "add", namespace)
            undo.callback(_ip, "netns", "delete", namespace)
            ours, here = _open_tun(undo)
            theirs, there = _open_tun(undo)
            _ip("link", "set", there, "netns", namespace)
            _raise_device(here, HERE, THERE)
            _raise_device(there, THERE, HERE, "-n", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespace with a TUN device can be made here: {error}")
        link = LossyLink(namespace, loss, delay)
        thread = threading.Thread(target=link.relay, args=(ours, theirs))
        thread.start()
        undo.callback(thread.join)
        undo.callback(link.stop)
        yield link


def _open_tun(undo: ExitStack) -> tuple[int, str]:
    """A descriptor that reads and writes a new device's packets, and the device's name."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    undo.callback(os.close, end)
    granted = fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", b"maas%d", _IFF_TUN | _IFF_NO_PI))
    return end, granted[:16].rstrip(b"\0").decode()


def _raise_device(name: str, address: str, peer: str, *where: str) -> None:
    _ip(*where, "address", "add", address, "peer", peer, "dev", name)
    _ip(*where, "link", "set", name, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)
