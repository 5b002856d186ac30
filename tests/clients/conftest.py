"""One server for every client."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.clients.models import CODE, publish
from tests.test_server import Server, serving


@pytest.fixture(scope="session")
def grpc_port() -> int:
    """A port that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, grpc_port: int) -> Iterator[Server]:
    """`maas serve` of the models in `models.py`."""
    folder = tmp_path_factory.mktemp("clients")
    publish(folder / "models")
    # Deadlines are met by waiting, whatever an earlier call has left running: nothing is refused by forecast.
    patient = {"slow": {"refuse_unreachable": False}}
    options = {"port": 0, "grpc_port": grpc_port}
    with serving(folder / "models", folder, allow_code=[CODE], server=options, models=patient) as running:
        yield running
