"""An instance: one model process that loads, runs batches, and fails in ways that a caller can understand."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.assets import worker_models
from tests.fakes import FakeInstance
from tests.versions import CODE, store

from maas.batching.execution import Instance as InstanceContract
from maas.batching.execution import InstanceGone
from maas.errors import BadArtifact, ComputeTimeout, Forbidden, ModelFailed, OutOfMemory, WorkerDied
from maas.models.repository import StoredVersion
from maas.models.verification import load_frame
from maas.runtimes.contract import Placement
from maas.types import Tensors, Tolerance
from maas.workers.frames import Load
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher

TIMEOUT = 30.0


def frame_of(
    stored: StoredVersion, *, allow_code: tuple[str, ...] = CODE, answer_bytes: int = 1 << 20
) -> Load:
    return load_frame(
        stored, Placement("cpu", 1), max_batch_size=4, max_answer_bytes=answer_bytes, allow_code=allow_code
    )


@asynccontextmanager
async def started(stored: StoredVersion) -> AsyncIterator[Instance]:
    """A started process that has loaded nothing yet."""
    launcher = Launcher()
    try:
        instance = Instance(await launcher.launch("python", 1), stored.manifest.signature, TIMEOUT)
        yield instance
        instance.close()
    finally:
        await launcher.close()


@asynccontextmanager
async def loaded(stored: StoredVersion, *, answer_bytes: int = 1 << 20) -> AsyncIterator[Instance]:
    async with started(stored) as instance:
        await instance.load(frame_of(stored, answer_bytes=answer_bytes))
        yield instance


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


def pair(*values: float) -> Tensors:
    return {"x": np.array([[value, value] for value in values], np.float32)}


async def dies(instance: Instance) -> None:
    with pytest.raises(WorkerDied):
        await instance.run([pair(20_000.0)], 1)


@asynccontextmanager
async def fake(stored: StoredVersion) -> AsyncIterator[FakeInstance]:
    yield FakeInstance(stored.manifest.signature)


@pytest.mark.parametrize("make", [loaded, fake], ids=["process", "fake"])
def test_batch_is_stacked_and_comes_back_whole(
    make: Callable[[StoredVersion], AbstractAsyncContextManager[InstanceContract]], tmp_path: Path
) -> None:
    """The contract of an instance, real or fake: outputs for all rows, in the order of the requests."""

    async def scenario() -> None:
        async with make(store(tmp_path)) as instance:
            for _ in range(3):
                result = await instance.run([pair(1.0), pair(2.0, 3.0)], 3)
                assert result.outputs["y"].tolist() == [[2, 2], [4, 4], [6, 6]]
                assert result.is_finite

    run(scenario())


def test_time_of_a_batch_is_told_apart(tmp_path: Path) -> None:
    """Bringing it to the process, the model's own, and bringing the answer back: none is nothing, and they add up to no more
    than the batch took."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Slow)) as instance:
            asked = time.monotonic()
            result = await instance.run([{"x": np.array([[200, 0]], np.float32)}], 1)
            took = time.monotonic() - asked
        assert result.compute >= 0.2
        assert min(result.input, result.output) > 0
        assert result.input + result.compute + result.output <= took

    run(scenario())


def test_answer_outlives_the_next_batch(tmp_path: Path) -> None:
    """What a caller holds is its own copy: the next batch in the same shared memory does not change it."""

    async def scenario() -> None:
        async with loaded(store(tmp_path)) as instance:
            first = await instance.run([pair(1.0)], 1)
            await instance.run([pair(5.0)], 1)
            assert first.outputs["y"].tolist() == [[2, 2]]

    run(scenario())


def test_slabs_grow_with_batches_and_answers(tmp_path: Path) -> None:
    """Inputs and answers far larger than the first ones pass, text included."""
    stored = store(
        tmp_path,
        worker_models.Repeat,
        inputs={"n": "int64[batch]"},
        outputs={"text": "bytes[batch]"},
        sample={"n": np.array([3, 0])},
    )

    async def scenario() -> None:
        async with loaded(stored, answer_bytes=64 << 20) as instance:
            for count in (1, 300_000, 7, 5_000_000):
                result = await instance.run([{"n": np.array([count])}, {"n": np.array([2])}], 2)
                assert [len(text) for text in result.outputs["text"]] == [count, 2]

    run(scenario())


def test_inputs_far_larger_than_before_arrive(tmp_path: Path) -> None:
    """A batch over the size of the input slab gets a new one, sent along with it."""
    stored = store(tmp_path, inputs={"x": "float32[batch, time]"}, sample={"x": np.ones((1, 3), np.float32)})

    async def scenario() -> None:
        async with loaded(stored, answer_bytes=64 << 20) as instance:
            for length in (3, 1_000_000, 5, 3_000_000):
                x = np.arange(length, dtype=np.float32)[None]
                result = await instance.run([{"x": x}], 1)
                assert np.array_equal(result.outputs["y"], x * 2)

    run(scenario())


def test_answer_over_the_limit_is_the_models_failure(tmp_path: Path) -> None:
    """An answer larger than allowed is refused with both numbers, and the process goes on."""

    async def scenario() -> None:
        async with loaded(store(tmp_path), answer_bytes=1024) as instance:
            with pytest.raises(ModelFailed, match=r"answer has 1600 bytes; the limit is 1024"):
                await instance.run([pair(*range(200))], 200)
            assert (await instance.run([pair(1.0)], 1)).outputs["y"].tolist() == [[2, 2]]

    run(scenario())


def test_raising_model_fails_its_batch_without_telling_where(tmp_path: Path) -> None:
    """A caller learns the exception's type and no path; the log gets the traceback; the next batch runs."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Moody)) as instance:
            with pytest.raises(ModelFailed) as failed:
                await instance.run([pair(-1.0)], 1)
            assert failed.value.message == "the model raised RuntimeError"
            assert "no such thing in /secret/place" in failed.value.trace
            assert (await instance.run([pair(1.0)], 1)).outputs["y"].tolist() == [[2, 2]]

    run(scenario())


def test_wrong_number_of_rows_is_the_models_failure(tmp_path: Path) -> None:
    """An answer whose rows are not the batch's is never scattered."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Moody)) as instance:
            with pytest.raises(ModelFailed, match=r"shape \[3, 2\].*the batch has 2 rows"):
                await instance.run([pair(-3.0, 1.0)], 2)

    run(scenario())


def test_non_finite_answer_is_marked(tmp_path: Path) -> None:
    """A batch that holds NaN says so; what that means is the dialect's matter."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Moody)) as instance:
            assert not (await instance.run([pair(-4.0)], 1)).is_finite

    run(scenario())


def test_death_over_a_batch_is_noticed_at_once(tmp_path: Path) -> None:
    """A process that dies mid-batch fails it as `WorkerDied` within a tenth of a second."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Slow)) as instance:
            loop = asyncio.get_running_loop()
            async with asyncio.TaskGroup() as group:
                batch = group.create_task(dies(instance))
                await asyncio.sleep(0.05)
                killed = loop.time()
                os.kill(instance.process.pid, signal.SIGKILL)
                await batch
            assert loop.time() - killed < 0.3
            assert await instance.process.exited == -signal.SIGKILL

    run(scenario())


def test_hanging_batch_ends_the_process_at_its_timeout(tmp_path: Path) -> None:
    """A batch over its time is `ComputeTimeout` then and there; its process is killed, whatever it is doing."""

    async def scenario() -> None:
        stored = store(tmp_path, worker_models.Slow)
        launcher = Launcher()
        try:
            instance = Instance(await launcher.launch("python", 1), stored.manifest.signature, 0.1)
            await instance.load(frame_of(stored))
            loop = asyncio.get_running_loop()
            started = loop.time()
            with pytest.raises(ComputeTimeout, match=r"longer than 0\.1 s"):
                await instance.run([pair(20_000.0)], 1)
            assert 0.1 <= loop.time() - started < 0.5
            assert await instance.process.exited == -signal.SIGKILL
            instance.close()
        finally:
            await launcher.close()

    run(scenario())


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_stopped_process_is_found_by_its_silence(
    is_busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP: after three missed signs of life the process is killed, idle or in the middle of a batch."""
    monkeypatch.setattr("maas.workers.instance._HEARTBEAT_SECONDS", 0.2)

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Slow)) as instance, asyncio.TaskGroup() as group:
            watching = group.create_task(instance.watch())
            if is_busy:
                batch = group.create_task(dies(instance))
                await asyncio.sleep(0.1)
            os.kill(instance.process.pid, signal.SIGSTOP)
            async with asyncio.timeout(5):
                await watching
                assert await instance.process.exited == -signal.SIGKILL
            if is_busy:
                await batch

    run(scenario())


def test_healthy_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes longer than three heartbeats is no silence: only its timeout judges it."""
    monkeypatch.setattr("maas.workers.instance._HEARTBEAT_SECONDS", 0.2)

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Slow)) as instance, asyncio.TaskGroup() as group:
            watching = group.create_task(instance.watch())
            result = await instance.run([pair(1_500.0)], 1)
            assert result.outputs["y"][0, 0] == 3_000.0
            await asyncio.sleep(1.0)
            assert not instance.gone.done()
            watching.cancel()

    run(scenario())


def test_large_slabs_go_when_nobody_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a heartbeat without a batch neither side holds them; whatever is freed in between, every answer is right."""
    monkeypatch.setattr("maas.workers.instance._HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("maas.workers.instance._MAX_MISSED", 1000)  # nobody need answer that fast
    stored = store(tmp_path, inputs={"x": "float32[batch, time]"}, sample={"x": np.ones((1, 3), np.float32)})

    async def scenario() -> None:
        others = shared_memory_of(os.getpid())  # which other tests of this process left
        async with loaded(stored, answer_bytes=64 << 20) as instance, asyncio.TaskGroup() as group:
            watching = group.create_task(instance.watch())
            for number in range(20):
                x = np.full((1, 5_000_000 if number % 3 else 5), number, np.float32)
                assert np.array_equal((await instance.run([{"x": x}], 1)).outputs["y"], x * 2)
                await asyncio.sleep(number / 500)
            await asyncio.sleep(0.5)
            for pid, before in ((os.getpid(), others), (instance.process.pid, 0)):
                assert shared_memory_of(pid) < before + (1 << 20)
            watching.cancel()

    run(scenario())


def shared_memory_of(pid: int) -> int:
    """Bytes of shared memory that the process has mapped and touched."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssShmem")).split()[1]) << 10


@pytest.mark.parametrize("raised", ["MemoryError", "OutOfMemoryError"])
def test_out_of_memory_is_told_from_other_failures(raised: str, tmp_path: Path) -> None:
    """What Python and torch raise when memory is short is `OutOfMemory`, so that the batch can be halved."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Hungry)) as instance:
            with pytest.raises(OutOfMemory):
                await instance.run([pair(*[1.0 if raised == "MemoryError" else 2.0] * 5)], 5)
            assert (await instance.run([pair(1.0)], 1)).outputs["y"].tolist() == [[2, 2]]

    run(scenario())


def test_dead_instance_refuses_further_batches(tmp_path: Path) -> None:
    """There is no waiting for a process that is gone."""

    async def scenario() -> None:
        async with loaded(store(tmp_path, worker_models.Moody)) as instance:
            with pytest.raises(WorkerDied):
                await instance.run([pair(-2.0)], 1)
            with pytest.raises(InstanceGone):
                await instance.run([pair(1.0)], 1)

    run(scenario())


def test_code_that_is_not_allowed_does_not_load(tmp_path: Path) -> None:
    """Without the operator's word the class is not even imported."""

    async def scenario() -> None:
        stored = store(tmp_path)
        async with started(stored) as instance:
            with pytest.raises(Forbidden, match=r"add 'tests\.assets\.worker_models' to allow_code"):
                await instance.load(frame_of(stored, allow_code=()))

    run(scenario())


def test_altered_file_does_not_load(tmp_path: Path) -> None:
    """One flipped byte in a file is refused by name before anything is loaded."""

    async def scenario() -> None:
        stored = store(tmp_path)
        path = stored.directory / "golden.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        async with started(stored) as instance:
            with pytest.raises(BadArtifact, match=r"'golden.safetensors' was altered"):
                await instance.load(frame_of(stored))

    run(scenario())


def test_model_process_is_what_the_operator_expects(tmp_path: Path) -> None:
    """It has the threads it was given, goes before the gateway when memory is short, and ignores the group's SIGTERM."""
    stored = store(
        tmp_path,
        worker_models.Facts,
        outputs={"facts": "int64[batch, 4]"},
        tolerances={"int64": Tolerance(relative=0.0, absolute=1e9)},  # every process has another pid
    )

    async def scenario() -> None:
        launcher = Launcher()
        try:
            instance = Instance(await launcher.launch("python", 2), stored.manifest.signature, TIMEOUT)
            await instance.load(frame_of(stored))
            (facts,) = (await instance.run([pair(1.0)], 1)).outputs["facts"].tolist()
            assert facts == [instance.process.pid, 2, 800, 1]
            instance.close()
        finally:
            await launcher.close()

    run(scenario())
