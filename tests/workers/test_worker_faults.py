"""What breaks around a model process costs at most that process: never another caller's answer, never the server."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.assets import worker_models
from tests.versions import store
from tests.workers.test_instance import loaded, pair, run
from tests.workers.test_pool import is_alive, pooled, stat_of

from maas.errors import ModelFailed, WorkerDied
from maas.types import Tensors
from maas.workers import forkserver
from maas.workers.channel import new_buffer, receive, send, socket_pair
from maas.workers.forkserver import _obey
from maas.workers.frames import Fork, ForkFailed, Parsed, Ping
from maas.workers.launcher import Launcher
from maas.workers.slab import Slab


class CutShort:
    """A socket whose next message lost its descriptor, as in a process that has none left."""

    def recvmsg_into(self, *_: Any) -> tuple[int, list[Any], int, None]:
        return 7, [], socket.MSG_CTRUNC, None


def test_frame_without_its_descriptor_is_never_used() -> None:
    """A slab that did not arrive ends the channel: its tensors would be read from another one, which are another caller's."""
    with pytest.raises(OSError, match="cut off"):
        receive(CutShort())  # type: ignore[arg-type]


def test_frame_outlives_the_buffer_it_came_in() -> None:
    """The next one is read into the same memory, and what the first holds undecoded is still its own."""
    ours, theirs = socket_pair()
    buffer = new_buffer()
    with ours, theirs:
        send(ours, Parsed({}, msgspec.Raw(b"\x01"), None, None))
        send(ours, Parsed({}, msgspec.Raw(b"\x02"), None, None))
        first, second = receive(theirs, buffer), receive(theirs, buffer)
        assert first is not None
        assert second is not None
        assert [bytes(frame.form) for frame, _ in (first, second)] == [b"\x01", b"\x02"]  # type: ignore[union-attr]


def test_descriptors_arrive_beside_their_frame() -> None:
    """What is sent along is the receiver's own, and closes on execution."""
    ours, theirs = socket_pair()
    with ours, theirs:
        slab = Slab.allocate(100)
        send(ours, Ping(), [slab.descriptor])
        received = receive(theirs)
        assert received is not None
        (descriptor,) = received[1]
        assert descriptor != slab.descriptor
        assert not os.get_inheritable(descriptor)
        other = Slab.attach(descriptor)
        slab.buffer[:5] = b"hello"
        assert bytes(other.buffer[:5]) == b"hello"
        other.free()
        slab.free()


def test_memory_that_can_shrink_is_no_slab() -> None:
    """A reader of memory that its writer can shrink dies of SIGBUS; without the seal it is refused."""
    descriptor = os.memfd_create("open", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4096)
    with pytest.raises(OSError, match="not sealed"):
        Slab.attach(descriptor)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)


@pytest.mark.parametrize("mood", [-5.0, -6.0], ids=["half a character", "exit"])
def test_odd_failures_are_the_requests_not_the_processs(mood: float, tmp_path: Path) -> None:
    """A message that cannot be sent, or a call of `exit`, fails its batch; the process goes on."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Moody)) as instance:
            with pytest.raises(ModelFailed):
                await instance.run([pair(mood)], 1)
            assert (await instance.run([pair(1.0)], 1)).outputs["y"].tolist() == [[2, 2]]

    run(scenario())


def test_death_is_noticed_though_a_child_holds_the_socket(tmp_path: Path) -> None:
    """A model that has started a process of its own and dies: noticed at once, and the child goes with it."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Moody)) as instance:
            group = instance.process.pid
            with pytest.raises(WorkerDied):
                async with asyncio.timeout(5):
                    await instance.run([pair(-7.0)], 1)
            for _ in range(500):  # it is killed at once; when it is gone, the kernel says
                if not members(group):
                    break
                await asyncio.sleep(0.01)
            assert not members(group)

    def members(group: int) -> list[int]:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_in(pid, group)]

    def is_in(pid: int, group: int) -> bool:
        return is_alive(pid) and stat_of(pid)[2] == str(group)

    run(scenario())


def test_large_text_in_a_golden_sample_is_no_reason_to_die(tmp_path: Path) -> None:
    """A sample that is too long to be shown as an example is loaded and served without one."""
    stored = store(
        tmp_path,
        worker_models.Repeat,
        inputs={"n": "int64[batch]"},
        outputs={"text": "bytes[batch]"},
        sample={"n": np.array([300_000])},
    )

    async def scenario() -> None:
        async with pooled(stored) as (pool, _, _launcher):
            assert (await pool.loaded).example_outputs == {}

    run(scenario())


def test_slab_that_cannot_be_had_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for a larger slab that batch fails, and the next ones of the old size are served."""

    async def scenario() -> None:
        async with loaded(store(tmp_path)) as instance:
            await instance.run([pair(1.0)], 1)
            large: Tensors = {"x": np.ones((100_000, 2), np.float32)}
            with monkeypatch.context() as patch:
                patch.setattr(os, "memfd_create", no_room)
                with pytest.raises(OSError, match="open files"):
                    await instance.run([large], 100_000)
            assert (await instance.run([pair(3.0)], 1)).outputs["y"].tolist() == [[6, 6]]

    def no_room(*_: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    run(scenario())


def test_fork_that_fails_costs_that_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a process: the fork server says so and goes on, and its other children with it."""
    ours, theirs = socket_pair()
    child, other = socket_pair()

    def no_room(*_: Any) -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(forkserver, "_fork", no_room)
    with ours, theirs, child, other:
        send(ours, Fork("maas.workers.child"), [child.fileno()])
        assert _obey(theirs, set())
        received = receive(ours)
        assert received is not None
        assert received[0] == ForkFailed(os.strerror(errno.EAGAIN))


def test_fork_server_and_its_models_killed_together_are_replaced(tmp_path: Path) -> None:
    """Whatever dies first, and however close: the pool goes on with another fork server."""

    async def scenario() -> None:
        async with pooled(store(tmp_path), size=2) as (_, register, _launcher):
            for _ in range(5):
                await register.until(2)
                pids = [instance.process.pid for instance in register.attached]
                parent = int(stat_of(pids[0])[1])
                for pid in (*pids, parent):
                    os.kill(pid, signal.SIGKILL)
                await register.until(0)
            await register.until(2)

    run(scenario())


def test_stopped_fork_server_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork server that does not answer is killed in the end; nobody waits for it for ever."""
    monkeypatch.setattr("maas.workers.pool._EXIT_SECONDS", 0.2)
    monkeypatch.setattr("maas.workers.launcher._STOP_SECONDS", 0.2)

    async def scenario() -> None:
        async with pooled(store(tmp_path)) as (_, register, _launcher):
            await register.until(1)
            parent = int(stat_of(register.attached[0].process.pid)[1])
            os.kill(parent, signal.SIGSTOP)
        assert not is_alive(parent)

    run(scenario())


def test_nobody_can_be_started_where_there_are_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that the machine refuses is `WorkerDied`, which the pool knows how to wait for."""

    def no_room() -> tuple[socket.socket, socket.socket]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("maas.workers.launcher.socket_pair", no_room)

    async def scenario() -> None:
        with pytest.raises(WorkerDied, match="no process can be started: Too many open files"):
            await Launcher().launch("python", 1)

    run(scenario())
