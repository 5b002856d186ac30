"""Starting a server, waiting for its first good answer, and ending whatever of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.torture.ledger import VARIABLE
from benchmarks.torture.processes import wait_until
from benchmarks.torture.wire import call


@contextmanager
def running(
    command: Sequence[str], folder: Path, extra: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, its standard error in `folder/log`, its ledger in `folder/ledger`."""
    environment = {**os.environ, VARIABLE: str(folder / "ledger"), **extra}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a peer's workers may outlive it
        process.wait(10)


def wait_for_answer(process: subprocess.Popen[bytes], port: int, request: bytes, seconds: float) -> None:
    def is_answered() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            return call(port, request, 5).status == 200
        except (OSError, ValueError):
            return False

    wait_until(is_answered, seconds, "the server's first answer", every=0.1)
