"""One server for every client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.clients.models import CODE, publish
from tests.test_server import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`maas serve` of the models in `models.py`."""
    folder = tmp_path_factory.mktemp("clients")
    publish(folder / "models")
    with serving(folder / "models", folder, allow_code=[CODE]) as running:
        yield running
