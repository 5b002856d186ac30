"""Proving a version: its hashes and its golden samples, in a model process, exactly as the server loads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from maas.config import Limits, ModelOptions
from maas.errors import BadArtifact
from maas.models.repository import StoredVersion
from maas.runtimes.contract import Placement
from maas.workers.frames import Load, encode
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher


def load_frame(
    stored: StoredVersion,
    placement: Placement,
    *,
    max_batch_size: int,
    max_batch_cost: int | None = None,
    max_answer_bytes: int = Limits().answer_bytes,
    load_timeout: float = ModelOptions().load_timeout,
    allow_code: Sequence[str] = (),
) -> Load:
    """What a model process is told to load `stored` at `placement`.

    Raises `BadArtifact` where its manifest holds what cannot be sent.
    """
    manifest = stored.manifest
    frame = Load(
        directory=str(stored.directory.absolute()),
        files=manifest.files,
        runtime=manifest.runtime.name,
        options=manifest.runtime.options,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        bounds=manifest.dimensions,
        tolerances=manifest.tolerances,
        device=placement.device,
        threads=placement.threads,
        max_batch_size=max_batch_size,
        max_batch_cost=max_batch_cost,
        max_answer_bytes=max_answer_bytes,
        load_timeout=load_timeout,
        allow_non_finite=manifest.allow_non_finite,
        allow_code=tuple(allow_code),
    )
    try:
        encode(frame)
    except (ValueError, OverflowError, TypeError) as error:
        raise BadArtifact(f"{stored.label} cannot be described to a model process: {error}") from error
    return frame


def verify(stored: StoredVersion, *, allow_code: Sequence[str] = (), device: str = "cpu") -> float:
    """Load `stored` in a process of its own and return the seconds that took.

    Raises `BadArtifact`, `Forbidden`, `ModelFailed` or `WorkerDied` where it cannot be served as it is. May be
    called from a thread that runs an event loop, such as a notebook's.
    """
    frame = load_frame(
        stored,
        Placement(device),
        max_batch_size=stored.manifest.batching.max_batch_size,
        max_batch_cost=stored.manifest.batching.max_batch_cost,
        allow_code=allow_code,
    )
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _load_once(stored, frame)).result()


async def _load_once(stored: StoredVersion, frame: Load) -> float:
    launcher = Launcher()
    try:
        return await load_by(launcher, stored, frame)
    finally:
        await launcher.close()


async def load_by(launcher: Launcher, stored: StoredVersion, frame: Load) -> float:
    """Load `stored` in a process of `launcher`, which is gone then; the seconds that took. Raises as `verify` does."""
    process = await launcher.launch(frame.runtime, frame.threads)
    instance = Instance(process, stored.manifest.signature, frame.load_timeout)
    try:
        return (await instance.load(frame)).seconds
    finally:
        instance.close()
