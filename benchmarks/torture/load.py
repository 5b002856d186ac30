"""A load: what is sent, and when; another process sends it, so that measuring does not disturb what is measured."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.torture.schedule import Phase
from benchmarks.torture.trace import Trace

NUMBER = b"@@@@@@"
"""In a request, stands for its number: six digits."""


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` are sent in turn, with their numbers put in. Open loop by `phases`; closed loop with `clients`, for
    `seconds` or until `most` were sent.

    `connections` are open from the start, and no more than `most_connections` ever: what is due when all are busy waits
    its turn, and the clock runs. An answer is awaited for `patience` seconds. A client that is refused waits as the server tells it where
    `honours_retry_after`, else comes back at once. `doubles`: a good answer holds twice the request's number.
    """

    port: int
    requests: tuple[bytes, ...]
    phases: tuple[Phase, ...] = ()
    clients: int = 0
    seconds: float = 0.0
    most: int = 1 << 60
    connections: int = 32
    most_connections: int = 2048
    patience: float = 30.0
    seed: int = 0
    honours_retry_after: bool = False
    doubles: bool = False

    def dump(self) -> bytes:
        fields = asdict(self)
        fields["requests"] = [base64.b64encode(each).decode() for each in self.requests]
        return json.dumps(fields).encode()

    @classmethod
    def parse(cls, text: bytes) -> Load:
        fields: dict[str, Any] = json.loads(text)
        fields["requests"] = tuple(map(base64.b64decode, fields["requests"]))
        fields["phases"] = tuple(Phase(**each) for each in fields["phases"])
        return cls(**fields)

    @property
    def length(self) -> float:
        return self.seconds or sum(phase.seconds for phase in self.phases)


class Running:
    """A load that another process has begun; `trace` waits for its end."""

    def __init__(self, load: Load, folder: Path) -> None:
        self._file = folder / f"trace-{time.monotonic_ns()}.npz"
        self._patience = load.length + load.patience + 30
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.torture.generator", str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(load.dump())
        self._process.stdin.close()
        self._process.stdin = None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the load generator ended with {self._process.wait()}")

    def stop(self) -> None:
        """Let a closed loop end now; what is on its way is still awaited."""
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def trace(self) -> Trace:
        if code := self._process.wait(self._patience):
            raise RuntimeError(f"the load generator ended with {code}")
        return Trace.read(self._file)
