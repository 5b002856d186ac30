"""The load of the benchmarks, by the generator of `maas bench` or by wrk, and whether the generator was what was slow."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rounds import Measured

from maas.bench.clients import send
from maas.bench.load import Load, Request
from maas.bench.meters import ServerStatistics
from maas.bench.report import Point

_WRK_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def request(path: str, content: bytes, *headers: str) -> Request:
    """A POST, whole."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", *headers, "", ""]
    return Request("\r\n".join(lines).encode() + content)


def json_request(path: str, body: object) -> Request:
    return request(path, json.dumps(body).encode(), "Content-Type: application/json")


@dataclass
class Generator:
    """A closed loop over `connections`. `notes` gathers what spoils a measurement: errors, and a generator that is too slow."""

    connections: int = 64
    seconds: float = 5.0
    warm_up: float = 0.5
    uses_wrk: bool = False
    notes: set[str] = field(default_factory=set)

    def measure(self, name: str, port: int, requests: Sequence[Request]) -> Measured:
        """Requests a second that were answered well, and milliseconds that they took."""
        if self.uses_wrk:
            return self._wrk(name, port, requests)
        load = Load(
            "127.0.0.1", port, tuple(requests), self.connections, seconds=self.seconds, warm_up=self.warm_up
        )
        point = Point(load, send(load), ServerStatistics())
        self.notes.update(f"{name}: {why}" for why in point.bottlenecks())
        self.notes.update(f"{name}: {count} × {kind}" for kind, count in point.tally.errors.items())
        latencies = point.tally.latencies
        return {
            "req/s": point.throughput,
            "p50 ms": latencies.percentile(50) * 1e3,
            "p99 ms": latencies.percentile(99) * 1e3,
        }

    def _wrk(self, name: str, port: int, requests: Sequence[Request]) -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "requests.lua"
            script.write_bytes(_script(requests))
            options = ["-t1", f"-c{self.connections}", f"-d{max(1, round(self.seconds))}", "--latency"]
            command = ["wrk", *options, "-s", str(script), f"http://127.0.0.1:{port}"]
            output = subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=self.seconds + 60
            ).stdout
        if (errors := re.search(r"(Non-2xx.*|Socket errors.*)", output)) is not None:
            self.notes.add(f"{name}: {errors[1]}")
        milliseconds = {
            percent: float(value) * _UNITS[unit] for percent, value, unit in _WRK_LATENCY.findall(output)
        }
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        assert rate is not None, output
        return {"req/s": float(rate[1]), "p50 ms": milliseconds["50"], "p99 ms": milliseconds["99"]}


def _script(requests: Sequence[Request]) -> bytes:
    """For wrk, which is given whole requests, in turn."""
    literals = b",\n".join(
        b'"' + b"".join(b"\\%03d" % byte for byte in each.content) + b'"' for each in requests
    )
    return (
        b"local requests = {\n" + literals + b"\n}\nlocal at = 0\n"
        b"request = function()\n  at = at % #requests + 1\n  return requests[at]\nend\n"
    )
