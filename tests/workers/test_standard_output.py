"""What processes print: told line by line, bounded, and never at the price of the process or of the loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.assets import worker_models
from tests.versions import store
from tests.workers.test_instance import TIMEOUT, frame_of, pair, run

from maas.errors import WorkerDied
from maas.models.verification import verify
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher
from maas.workers.standard_output import PrintedLine, StandardOutput


@dataclass
class Lines:
    """The lines told so far, and when another is."""

    told: list[PrintedLine] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, line: PrintedLine) -> None:
        self.told.append(line)
        self.changed.set()

    async def until(self, count: int) -> list[str]:
        """The texts of `count` lines, those that were dropped counted among them."""
        while sum(line.dropped or 1 for line in self.told) < count:
            self.changed.clear()
            await self.changed.wait()
        assert sum(line.dropped or 1 for line in self.told) == count
        return [line.text for line in self.told if not line.dropped]


@asynccontextmanager
async def noisy(repository: Path) -> AsyncIterator[tuple[Instance, Lines]]:
    """A loaded `Noisy`, and the lines it has printed so far."""
    lines = Lines()
    stored = store(repository, worker_models.Noisy, sample=pair(0.0))
    launcher = Launcher()
    try:
        process = await launcher.launch("python", 1, lines.add)
        instance = Instance(process, stored.manifest.signature, TIMEOUT)
        await instance.load(frame_of(stored))
        yield instance, lines
        instance.close()
    finally:
        await launcher.close()


def test_every_line_comes_from_wherever_it_was_written(tmp_path: Path) -> None:
    """Python's streams, a bare write and a child process; line ends of all kinds, half a character, with the process's pid."""

    async def scenario() -> None:
        async with noisy(tmp_path) as (instance, lines):
            await instance.run([pair(1.0)], 1)
            assert await lines.until(5) == [
                "from Python",
                "second\x1b[31mred",
                "from C \\xe2\\x82",
                '{"event": "forged"}',
                "from a child",
            ]
            assert {line.pid for line in lines.told} == {instance.process.pid}

    run(scenario())


def test_long_line_is_cut(tmp_path: Path) -> None:
    """A megabyte without a line's end passes through, and its beginning is told."""

    async def scenario() -> None:
        async with noisy(tmp_path) as (instance, lines):
            await instance.run([pair(2.0)], 1)
            await instance.run([pair(1.0)], 1)
            assert (await lines.until(6))[:2] == ["m" * 1024, "from Python"]

    run(scenario())


def test_flood_is_counted_and_costs_neither_side_much(tmp_path: Path) -> None:
    """50,000 lines in a batch: the batch is answered, some lines are told, the rest are counted, the loop runs on."""

    async def scenario() -> None:
        async with noisy(tmp_path) as (instance, lines):
            used = time.process_time()
            assert (await instance.run([pair(3.0)], 1)).outputs["y"].tolist() == [[6, 6]]
            told = await lines.until(50_000)
            assert time.process_time() - used < 0.5
            assert told[:100] == [f"flood {number}" for number in range(100)]
            assert len(told) <= 300  # in as many seconds as it may take here

    run(scenario())


def test_last_words_of_a_killed_process_are_told(tmp_path: Path) -> None:
    """What stands in the pipe when a process dies is told before its end is, with or without a line's end."""

    async def scenario() -> None:
        async with noisy(tmp_path) as (instance, lines):
            with pytest.raises(WorkerDied):
                await instance.run([pair(4.0)], 1)
            await instance.process.exited
            assert [line.text for line in lines.told] == ["last words"]

    run(scenario())


def test_fork_servers_own_output_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a preloaded engine prints, and the traceback that ends a fork server, reach whoever asked."""
    monkeypatch.setattr("maas.workers.launcher.PRELOADS", {"python": ("tests.assets.no_engine",)})
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(__file__).parents[2])
    )  # a fork server does not look where it was started

    async def scenario() -> None:
        lines: list[PrintedLine] = []
        launcher = Launcher(lines.append)
        try:
            with pytest.raises(WorkerDied):
                await launcher.launch("python", 1)
        finally:
            await launcher.close()
        assert lines[0].text == "an engine greets"
        assert lines[-1].text == "RuntimeError: it does not load"

    run(scenario())


def test_verification_shows_what_the_model_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Who publishes or verifies sees a model's output on standard error, as it was written."""
    stored = store(tmp_path, worker_models.Noisy, sample=pair(1.0))
    capfd.readouterr()
    verify(stored, allow_code=("tests.assets",))
    out, err = capfd.readouterr()
    assert out == ""
    assert "from a child\n" in err


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Pipes go with their processes."""

    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        async with noisy(tmp_path) as (instance, _):
            await instance.run([pair(1.0)], 1)
        assert len(os.listdir("/proc/self/fd")) == before

    run(scenario())


def test_pipe_closed_before_any_process_had_it_is_closed_whole() -> None:
    """A launch that fails gives both ends back."""

    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        StandardOutput(lambda _: None).close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(scenario())
