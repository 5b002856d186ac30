"""LitServe, with one worker that is restarted when it dies and batches of 32."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.torture.adapters.contract import Service, Setup
from benchmarks.torture.adapters.environment import ROOT, environment_of, version_of
from benchmarks.torture.adapters.processes import running, wait_for_answer
from benchmarks.torture.ledger import Ledger
from benchmarks.torture.wire import post

_BATCH_TIMEOUT = 0.005  # seconds that the first request of a batch waits for company


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def ask(milliseconds: float, number: object) -> bytes:
    return post("/predict", b'{"x": [%g, %b]}' % (milliseconds, str(number).encode()))


class LitServe:
    name = "litserve"

    def versions(self) -> str:
        return version_of(self.name)

    def lacks(self) -> dict[str, str]:
        return {}

    @contextmanager
    def serve(self, folder: Path, setup: Setup) -> Iterator[Service]:
        port = free_port()
        options = [port, setup.max_batch_size, setup.deadline, _BATCH_TIMEOUT]
        module = "benchmarks.torture.peers.litserve_server"
        command = [str(environment_of(self.name) / "python"), "-m", module, *map(str, options)]
        with running(command, folder, {"PYTHONPATH": str(ROOT)}) as process:
            wait_for_answer(process, port, ask(0, 0), 90)
            yield Service(port, process, Ledger(folder / "ledger"), ask)
