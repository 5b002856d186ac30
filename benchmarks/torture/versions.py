"""Versions of the suite's models, sealed as publishing would seal them: proving each would take a process and a second."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.torture.models import Double

from maas.models.manifest import Batching, Manifest, RuntimeOptions, to_yaml
from maas.runtimes.contract import MANIFEST
from maas.runtimes.golden import GOLDEN, GoldenSample, save_golden
from maas.types import Tensors

CODE = "benchmarks.torture.models"
PAIRS = {"x": "float32[batch, 2]"}


def _pair() -> Tensors:
    return {"x": np.array([[0, 1]], np.float32)}


@dataclass(frozen=True)
class Model:
    """A class, what it takes and gives, and a sample that the class `answers` as its golden one expects."""

    cls: type = Double
    inputs: Mapping[str, str] = field(default_factory=lambda: PAIRS)
    outputs: Mapping[str, str] = field(default_factory=lambda: {"y": PAIRS["x"]})
    sample: Tensors = field(default_factory=_pair)
    answers: type | None = None
    max_batch_size: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)


def store(repository: Path, name: str, model: Model, version: str = "1") -> Path:
    """Put version NAME/VERSION into the repository, whole at once, and return its directory."""
    parent = repository / name
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=repository.parent, suffix=".staged") as folder:
        staged = Path(folder) / version
        staged.mkdir()
        runner = (model.answers or model.cls)(staged, "cpu")
        save_golden(staged, [GoldenSample(model.sample, runner.run(model.sample))])
        (staged / MANIFEST).write_text(to_yaml(_manifest(name, model, version, staged)))
        return staged.rename(parent / version)


def _manifest(name: str, model: Model, version: str, directory: Path) -> Manifest:
    return Manifest(
        runtime=RuntimeOptions.model_validate({"name": "python", "class": f"{CODE}:{model.cls.__name__}"}),
        inputs=dict(model.inputs),
        outputs=dict(model.outputs),
        batching=Batching(max_batch_size=model.max_batch_size, max_queue_delay=0.0),
        name=name,
        version=version,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        files={GOLDEN: hashlib.sha256((directory / GOLDEN).read_bytes()).hexdigest()},
        **model.options,
    )
