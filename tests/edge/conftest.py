"""Two servers, each started once: one whose limits are short, and one that is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.assets import worker_models
from tests.test_server import Server, serving
from tests.versions import store

SHORT = {
    "port": 0,
    "header_timeout": 0.4,
    "idle_timeout": 0.8,
    "keep_alive_timeout": 1.6,
    "body_grace": 0.4,
    "body_min_rate": 4096,
    "write_timeout": 1.0,
    "header_bytes": 16 << 10,
    "header_count": 50,
    "url_bytes": 4096,
    "max_connections": 600,
}
LIMITS = {"body_bytes": 1 << 20, "requests": 64}


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Short limits, a model that doubles, one that takes the milliseconds it is told, one with answers of any size."""
    folder = tmp_path_factory.mktemp("edge")
    repository = folder / "models"
    store(repository, name="double")
    store(repository, worker_models.Slow, name="slow", max_batch_size=1)
    large: dict[str, Any] = {"inputs": {"n": "int64[batch]"}, "outputs": {"text": "bytes[batch]"}}
    store(repository, worker_models.Repeat, name="repeat", sample={"n": np.array([1, 2])}, **large)
    patient = {"slow": {"refuse_unreachable": False, "request_timeout": 600}}
    quiet = {"slow_seconds": 600}  # what takes long is meant to, and no news
    with serving(repository, folder, server=SHORT, limits=LIMITS, models=patient, logging=quiet) as running:
        yield running
