"""Versions on disk without the process that proving each would take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas.models import publishing
from maas.models.manifest import Description
from maas.models.repository import Repository, StoredVersion
from maas.runtimes.golden import GoldenSample, save_golden

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
CODE = ("tests.assets",)


def describe(**changes: Any) -> Description:
    """`tests.assets.plain_models:Affine` as its author describes it."""
    usual: dict[str, Any] = {
        "runtime": {"name": "python", "class": "tests.assets.plain_models:Affine"},
        "inputs": {"x": "float32[batch, 3]"},
        "outputs": {"y": "float32[batch, 2]", "total": "float32[batch]"},
    }
    return Description.model_validate(usual | changes)


def fill(draft: Path) -> None:
    """The model's files: its golden sample, and one that it does not need."""
    y = X @ np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    save_golden(draft, [GoldenSample({"x": X}, {"y": y, "total": y.sum(axis=1)})])
    (draft / "notes.txt").write_text("notes")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def seal(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StoredVersion]:
    """Publishes without proving."""
    monkeypatch.setattr(publishing, "verify", lambda stored, **_: 0.0)

    def seal(name: str, version: str | None = None, **changes: Any) -> StoredVersion:
        return publishing.publish(repository, name, describe(**changes), fill, version=version)

    return seal


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below `root` with its contents, None for folders."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }
