"""Runs a server and the soak's traffic on it, and watches what the server holds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmarks.soak.footprint import Footprint, read_footprint
from benchmarks.soak.models import Double, Repeat
from benchmarks.soak.report import Report
from benchmarks.soak.traffic import Traffic

import maas

_START_SECONDS = 60.0
_REST_SECONDS = 2.5  # in which idle connections and drained versions go
_SAMPLES = 400  # at most one a second, and no more than that


def soak(folder: Path, seconds: float) -> Report:
    """Mixed traffic with faults for `seconds`, a fifth of them to warm up, on a server of its own with files in `folder`."""
    repository = folder / "models"
    _publish(repository)
    with _serving(folder, repository) as (process, url):
        traffic = Traffic(url, process.pid, repository)
        report = asyncio.run(_soak(traffic, seconds))
        bugs = (event for event in _events(folder / "log.jsonl") if event["event"] == "request_met_a_bug")
        report.surprises[:0] = [bug["exception"] for bug in bugs]
        return report


async def _soak(traffic: Traffic, seconds: float) -> Report:
    await traffic.run(seconds / 5)
    before = await _at_rest(traffic)
    samples: list[tuple[float, Footprint]] = []
    async with asyncio.TaskGroup() as group:
        running = group.create_task(traffic.run(seconds * 4 / 5))
        started = time.monotonic()
        while not running.done():
            samples.append((time.monotonic() - started, await _measure(traffic)))
            await asyncio.wait([running], timeout=max(1.0, seconds / _SAMPLES))
    after = await _at_rest(traffic)
    return Report(before, after, samples, dict(traffic.outcomes), traffic.surprises)


async def _at_rest(traffic: Traffic) -> Footprint:
    await traffic.touch_all()
    await asyncio.sleep(_REST_SECONDS)
    return await _measure(traffic)


async def _measure(traffic: Traffic) -> Footprint:
    async with httpx.AsyncClient(base_url=traffic.url, timeout=60) as client:
        metrics = (await client.get("/metrics")).text
    return await asyncio.to_thread(read_footprint, traffic.gateway, metrics)


def _publish(repository: Path) -> None:
    for name in ("double", "changing", "coming"):
        maas.publish(Double, {"x": np.ones((2, 2), np.float32)}, name=name, repository=repository)
    maas.publish(Repeat, {"n": np.array([1, 2])}, name="repeat", repository=repository)


@contextmanager
def _serving(folder: Path, repository: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`maas serve` on a free port, its log in `folder`; ended with SIGTERM, after which its exit code must be 0."""
    configuration = {
        "repository": str(repository),
        "allow_code": [Double.__module__],
        "server": {"port": 0},
        "models": {"changing": {"versions": "highest"}},
    }
    (folder / "maas.yaml").write_text(json.dumps(configuration))
    log = folder / "log.jsonl"
    command = [sys.executable, "-m", "maas", "serve", "--config", str(folder / "maas.yaml")]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        yield process, _url_when_ready(process, log)
        process.terminate()
        if (code := process.wait(60)) != 0:
            raise RuntimeError(f"the server ended with {code}")
    finally:
        process.kill()
        process.wait()


def _url_when_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for event in _events(log):
            if event["event"] == "listening":
                url = f"http://127.0.0.1:{event['port']}"
                if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                    return url
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text()}")


def _events(log: Path) -> list[dict[str, Any]]:
    whole, _, _ = log.read_text().rpartition("\n")  # the last line may be half written yet
    return [json.loads(line) for line in whole.splitlines()]
