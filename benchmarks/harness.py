"""What the benchmarks share: a model, a server in a process of its own, one bare connection, and facts about the machine."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import maas


class Mlp(torch.nn.Module):
    """Three layers over 16 features: a model that costs so little that everything else shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(16, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


def publish_mlp(repository: Path) -> None:
    torch.manual_seed(0)
    maas.publish(Mlp(), {"x": torch.randn(4, 16)}, name="mlp", repository=repository)


@contextmanager
def serving(repository: Path) -> Iterator[int]:
    """`maas serve` with one thread for each model; yields its port when it is ready."""
    command = [sys.executable, "-m", "maas", "serve", "--repository", str(repository), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _port_when_ready(process)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def _port_when_ready(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    port = None
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "listening":
            port = event["port"]
        if event["event"] == "version_ready" and port is not None:
            return int(port)
    raise RuntimeError(f"the server ended with {process.wait()}")


class Connection:
    """One keep-alive connection and one request over and over: no client library whose cost would be counted too."""

    def __init__(self, port: int, path: str, body: object) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self._request = head.encode() + content

    def call(self) -> float:
        """Seconds from the request's first byte to the answer's last."""
        started = time.perf_counter()
        self._socket.sendall(self._request)
        answer = self._socket.recv(65536)
        while not _is_complete(answer):
            answer += self._socket.recv(65536)
        elapsed = time.perf_counter() - started
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode(errors="replace"))
        return elapsed

    def close(self) -> None:
        self._socket.close()


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
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().split('-')[0]}, load {load}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, maas {maas.__version__} at {commit.stdout.strip() or '?'}"
    )
