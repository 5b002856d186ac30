"""Proving a version: its hashes and its golden samples, in a model process, exactly as the server loads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from maas.config import Limits
from maas.models.repository import StoredVersion
from maas.runtimes.contract import Placement
from maas.workers.frames import Load
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher


def load_frame(
    stored: StoredVersion,
    placement: Placement,
    *,
    max_batch_size: int,
    max_answer_bytes: int = Limits().answer_bytes,
    allow_code: Sequence[str] = (),
) -> Load:
    """What a model process is told to load `stored` at `placement`."""
    manifest = stored.manifest
    return Load(
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
        max_answer_bytes=max_answer_bytes,
        allow_code=tuple(allow_code),
    )


def verify(stored: StoredVersion, *, allow_code: Sequence[str] = (), device: str = "cpu") -> float:
    """Load `stored` in a process of its own and return the seconds that took.

    Raises `BadArtifact`, `Forbidden`, `ModelFailed` or `WorkerDied` where it cannot be served as it is. May be
    called from a thread that runs an event loop, such as a notebook's.
    """
    frame = load_frame(
        stored,
        Placement(device),
        max_batch_size=stored.manifest.batching.max_batch_size,
        allow_code=allow_code,
    )
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _load_once(stored, frame)).result()


async def _load_once(stored: StoredVersion, frame: Load) -> float:
    launcher = Launcher()
    try:
        instance = Instance(await launcher.launch(frame.runtime, frame.threads), stored.manifest.signature)
        try:
            return (await instance.load(frame)).seconds
        finally:
            instance.close()
    finally:
        await launcher.close()
