"""The pool: instances come, die, come again, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.assets import worker_models
from tests.versions import CODE, store

from maas.batching.execution import Instance as BatcherInstance
from maas.errors import BadArtifact, ModelNotReady
from maas.models.repository import StoredVersion
from maas.models.verification import load_frame
from maas.runtimes.contract import Placement
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher
from maas.workers.pool import InstanceState, Pool


@dataclass
class Register:
    """Stands where a batcher stands: knows who is attached, and when that changes."""

    attached: list[Instance] = field(default_factory=list)
    deaths: list[tuple[int, int]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def attach(self, instance: BatcherInstance) -> None:
        assert isinstance(instance, Instance)
        self.attached.append(instance)
        self.changed.set()

    def detach(self, instance: BatcherInstance) -> None:
        if instance in self.attached:
            self.attached.remove(instance)
        self.changed.set()

    def on_death(self, pid: int, code: int) -> None:
        self.deaths.append((pid, code))

    async def until(self, count: int) -> None:
        while len(self.attached) != count:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def pooled(stored: StoredVersion, size: int = 1) -> AsyncIterator[tuple[Pool, Register, Launcher]]:
    launcher, register = Launcher(), Register()
    frame = load_frame(stored, Placement(), max_batch_size=4, max_answer_bytes=1 << 20, allow_code=CODE)
    pool = Pool(
        launcher,
        frame,
        stored.manifest.signature,
        size,
        compute_timeout=30.0,
        attach=register.attach,
        detach=register.detach,
        on_death=register.on_death,
    )
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(pool.serve())
            yield pool, register, launcher
            serving.cancel()
    finally:
        await launcher.close()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent …; none where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    """A zombie that its new parent has not reaped yet is dead."""
    return stat_of(pid)[:1] not in ([], ["Z"])


def test_every_instance_is_attached_when_it_has_loaded(tmp_path: Path) -> None:
    """A pool of two has two processes that answer, and says so."""

    async def scenario() -> None:
        async with pooled(store(tmp_path), size=2) as (pool, register, _):
            loaded = await pool.loaded
            assert loaded.example_inputs == {"x": [1.0, 1.0]}
            assert loaded.example_outputs == {"y": [2.0, 2.0]}
            await register.until(2)
            assert len({instance.process.pid for instance in register.attached}) == 2
            assert pool.statistics().instances[InstanceState.READY] == 2
            x = np.ones((1, 2), np.float32)
            for instance in register.attached:
                assert (await instance.run([{"x": x}], 1)).outputs["y"].tolist() == [[2.0, 2.0]]

    run(scenario())


def test_killed_instance_is_detached_and_replaced(tmp_path: Path) -> None:
    """SIGKILL of a model process: another one has loaded well within a second, and the death is counted."""

    async def scenario() -> None:
        async with pooled(store(tmp_path)) as (pool, register, _):
            await register.until(1)
            first = register.attached[0].process.pid
            loop = asyncio.get_running_loop()
            killed = loop.time()
            os.kill(first, signal.SIGKILL)
            await register.until(0)
            await register.until(1)
            assert loop.time() - killed < 3
            assert register.attached[0].process.pid != first
            assert register.deaths == [(first, -signal.SIGKILL)]
            assert pool.statistics().deaths == 1

    run(scenario())


def test_pool_that_is_given_up_keeps_nobody(tmp_path: Path) -> None:
    """Its processes are gone, nobody is attached, and `failed` has the reason."""

    async def scenario() -> None:
        async with pooled(store(tmp_path), size=2) as (pool, register, _):
            await register.until(2)
            processes = [instance.process for instance in register.attached]
            pool.give_up(ModelNotReady("not wanted"))
            await register.until(0)
            assert (await pool.failed).message == "not wanted"
            await asyncio.gather(*(process.exited for process in processes))
            assert pool.statistics().instances[InstanceState.FAILED] == 2

    run(scenario())


def test_killed_fork_server_is_replaced_with_its_children(tmp_path: Path) -> None:
    """The kernel ends the children of a dead fork server; the pool starts another and goes on."""

    async def scenario() -> None:
        async with pooled(store(tmp_path)) as (_, register, _launcher):
            await register.until(1)
            child = register.attached[0].process.pid
            parent = int(stat_of(child)[1])
            os.kill(parent, signal.SIGKILL)
            await register.until(0)
            await register.until(1)
            assert not is_alive(child)

    run(scenario())


def test_group_signals_do_not_end_a_model_process(tmp_path: Path) -> None:
    """Ctrl-C and a service manager's SIGTERM reach the whole group; only the gateway's word ends a model process."""

    async def scenario() -> None:
        async with pooled(store(tmp_path)) as (_, register, _launcher):
            await register.until(1)
            instance = register.attached[0]
            os.kill(instance.process.pid, signal.SIGINT)
            os.kill(instance.process.pid, signal.SIGTERM)
            result = await instance.run([{"x": np.ones((1, 2), np.float32)}], 1)
            assert result.outputs["y"].tolist() == [[2.0, 2.0]]

    run(scenario())


def test_version_that_cannot_load_is_given_up_with_its_reason(tmp_path: Path) -> None:
    """What is wrong on disk will be wrong again: one attempt, and `failed` has why."""

    async def scenario() -> None:
        stored = store(tmp_path)
        (stored.directory / "golden.safetensors").unlink()
        async with pooled(stored) as (pool, register, _):
            error = await pool.failed
            assert isinstance(error, BadArtifact)
            assert "golden" in error.message
            assert pool.statistics().instances[InstanceState.FAILED] == 1
            assert register.attached == []

    run(scenario())


def test_version_that_kills_its_process_while_loading_is_given_up(tmp_path: Path) -> None:
    """Three deaths in a row before anything was loaded are enough."""

    async def scenario() -> None:
        async with pooled(store(tmp_path, worker_models.DiesWhileLoading)) as (pool, _, _launcher):
            error = await pool.failed
            assert isinstance(error, ModelNotReady)
            assert "given up after 3 in a row" in error.message

    run(scenario())


def test_nothing_is_left_when_the_pool_ends(tmp_path: Path) -> None:
    """Neither a process nor a descriptor survives, whatever was running."""

    async def scenario() -> None:
        pids = []
        async with pooled(store(tmp_path, worker_models.Slow), size=2) as (_, register, _launcher):
            await register.until(2)
            pids = [instance.process.pid for instance in register.attached]
        assert not any(is_alive(pid) for pid in pids)

    before = sorted(os.listdir("/proc/self/fd"))
    run(scenario())
    assert sorted(os.listdir("/proc/self/fd")) == before
