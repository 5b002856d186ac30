"""Sealed versions of the plain classes in `tests.assets`, written directly: proving each would take a process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tests.assets.worker_models import Double

from maas.models.manifest import MANIFEST, Batching, Manifest, RuntimeOptions, to_yaml
from maas.models.repository import StoredVersion, read_version
from maas.runtimes.golden import GOLDEN, GoldenSample, save_golden
from maas.types import Bounds, Tensors

CODE = ("tests.assets",)
PAIRS: Mapping[str, str] = {"x": "float32[batch, 2]"}


def store(
    repository: Path,
    cls: type = Double,
    *,
    name: str = "model",
    version: str = "1",
    inputs: Mapping[str, str] = PAIRS,
    outputs: Mapping[str, str] | None = None,
    sample: Tensors | None = None,
    dimensions: Mapping[str, Bounds] | None = None,
    max_batch_size: int = 32,
    **manifest: Any,
) -> StoredVersion:
    """Version NAME/VERSION of a Python class, with a golden sample that the class itself answers."""
    directory = repository / name / version
    directory.mkdir(parents=True)
    given = sample if sample is not None else {"x": np.ones((2, 2), np.float32)}
    save_golden(directory, [GoldenSample(given, cls(directory, "cpu").run(given))])
    sealed = Manifest(
        runtime=RuntimeOptions.model_validate(
            {"name": "python", "class": f"{cls.__module__}:{cls.__qualname__}"}
        ),
        inputs=dict(inputs),
        outputs=dict(outputs or {"y": inputs["x"]}),
        dimensions=dict(dimensions or {}),
        batching=Batching(max_batch_size=max_batch_size, max_queue_delay=0.0),
        name=name,
        version=version,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        files={GOLDEN: hashlib.sha256((directory / GOLDEN).read_bytes()).hexdigest()},
        **manifest,
    )
    (directory / MANIFEST).write_text(to_yaml(sealed))
    return read_version(directory, name, version)
