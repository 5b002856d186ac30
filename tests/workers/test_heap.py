"""The heap of a model process: kept between batches, and given back when there are none."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.versions import store
from tests.workers.test_instance import loaded, run

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)

_SCRIPT = """
import resource
import numpy as np
from maas.workers.heap import keep_freed

def faults_of_a_batch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [np.ones(1 << 20, np.uint8) for _ in range(48)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_itself = [faults_of_a_batch() for _ in range(3)][-1]
keep_freed()
print(by_itself, [faults_of_a_batch() for _ in range(3)][-1])
"""


def test_a_batch_takes_the_memory_that_the_last_one_freed() -> None:
    """No page is taken from the system anew, as it would be by itself."""
    output = subprocess.run(
        [sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    by_itself, kept = map(int, output.split())
    assert by_itself > 1000
    assert kept < 100


def test_memory_goes_back_when_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle model does not hold what its largest batch took."""
    monkeypatch.setattr("maas.workers.instance._HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("maas.workers.instance._MAX_MISSED", 1000)
    stored = store(tmp_path, inputs={"x": "float32[batch, time]"}, sample={"x": np.ones((1, 3), np.float32)})
    large = {"x": np.ones((1, 6_000_000), np.float32)}

    async def scenario() -> None:
        async with loaded(stored, answer_bytes=64 << 20) as instance, asyncio.TaskGroup() as group:
            await instance.run([large], 1)
            kept = private_memory_of(instance.process.pid)
            watching = group.create_task(instance.watch())
            for _ in range(500):
                await asyncio.sleep(0.01)
                if private_memory_of(instance.process.pid) < kept - (20 << 20):
                    break
            else:
                pytest.fail(f"{kept >> 20} MB were kept for good")
            assert np.array_equal((await instance.run([large], 1)).outputs["y"], large["x"] * 2)
            watching.cancel()

    run(scenario())


def private_memory_of(pid: int) -> int:
    """Bytes that only this process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) << 10
