"""What the benchmarks share: models, a server in a process of its own, and facts about the machine."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.echo import Echo
from benchmarks.modules import PADDING, Cnn, Encoder, Mlp, build

import maas
from maas import runtimes
from maas.models.repository import Repository
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.workers.heap import keep_freed

CODE = "benchmarks"
SHORTEST, LONGEST = 8, 128  # tokens of the encoder's requests
_READY = 120.0  # seconds


def publish_echo(repository: Path) -> None:
    maas.publish(Echo, {"x": np.ones((4, 8), np.float32)}, name="echo", repository=repository)


def publish_mlp(repository: Path) -> None:
    maas.publish(build(Mlp), {"x": torch.randn(4, 16)}, name="mlp", repository=repository)


def publish_cnn(repository: Path) -> None:
    maas.publish(build(Cnn), {"image": torch.randn(4, 3, 64, 64)}, name="cnn", repository=repository)


def publish_encoder(repository: Path) -> None:
    maas.publish(
        build(Encoder),
        {"ids": torch.randint(1, 1000, (2, 48))},
        name="encoder",
        repository=repository,
        inputs={"ids": "int64[batch, seq]"},
        dimensions={"seq": maas.Bounds(SHORTEST, LONGEST, pad=PADDING)},
    )


def load_runner(repository: Path, name: str, threads: int = 1) -> Runner:
    """The served version's own runner, in this process: what the model does without a server, with the heap of one."""
    keep_freed()
    torch.set_num_threads(threads)
    stored = Repository(repository).read(name)
    manifest = stored.manifest
    artifact = Artifact(stored.directory, manifest.signature, manifest.runtime.options, (CODE,))
    return runtimes.runtime(manifest.runtime.name).load(artifact, Placement(threads=threads))


@dataclass(frozen=True)
class Serving:
    """A server that is ready; `pid` is its gateway."""

    port: int
    pid: int
    log: Path | None = None

    def model_processes(self) -> list[int]:
        """Those that hold an instance, as the log of a server of ours says."""
        assert self.log is not None
        return [event["pid"] for event in events(self.log) if event["event"] == "instance_ready"]


@contextmanager
def serving(repository: Path, **tree: Any) -> Iterator[Serving]:
    """`maas serve` of that folder with the configuration `tree`, on a free port."""
    with started(repository, **tree) as (process, log):

        def find_port() -> int | None:
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-2000:])
            return next((event["port"] for event in events(log) if event["event"] == "listening"), None)

        port = wait_for(find_port, _READY)
        wait_for(lambda: is_answered(port, "/v2/health/ready"), _READY)
        yield Serving(port, process.pid, log)


@contextmanager
def started(repository: Path, **tree: Any) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The process and its log, without waiting for anything."""
    options = {"repository": str(repository), "allow_code": [CODE], "server": {"port": 0}, **tree}
    file = repository.parent / f"serve-{time.monotonic_ns()}.json"
    file.write_text(json.dumps(options))
    with running(
        [sys.executable, "-m", "maas", "serve", "--config", str(file)], file.with_suffix(".log")
    ) as process:
        yield process, file.with_suffix(".log")


@contextmanager
def running(command: list[str], log: Path, seconds: float = 30.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended in good order, or after `seconds`, and whatever it leaves behind with it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a peer's workers may outlive it
        process.wait(10)


def events(log: Path) -> list[dict[str, Any]]:
    whole, _, _ = log.read_text().rpartition("\n")  # the last line may be half written yet
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def wait_for(find: Callable[[], int | None], seconds: float, every: float = 0.005) -> int:
    """What `find` finds, asked until then. Raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(every)
    return found


def is_answered(port: int, path: str, body: object = None) -> bool:
    """Whether a server answers with 200 on a connection of its own: GET, or POST of `body` as JSON."""
    try:
        connection = Connection(port, path, body)
    except OSError:
        return False
    try:
        connection.call()
    except (OSError, RuntimeError):
        return False
    finally:
        connection.close()
    return True


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Connection:
    """One keep-alive connection and one request over and over: no client library whose cost would be counted too."""

    def __init__(self, port: int, path: str, body: object) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        method, content = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def call(self) -> float:
        """Seconds from the request's first byte to the answer's last."""
        started = time.perf_counter()
        self._socket.sendall(self._request)
        answer = self._receive()
        while not _is_complete(answer):
            answer += self._receive()
        elapsed = time.perf_counter() - started
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace"))
        return elapsed

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        if data := self._socket.recv(65536):
            return data
        raise ConnectionResetError("the server closed the connection")


def _is_complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return len(body) >= int(length.partition(b":")[2])


def describe_machine() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}, load {load}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, maas {maas.__version__} at {commit.stdout.strip() or '?'}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        "unknown processor",
    )
