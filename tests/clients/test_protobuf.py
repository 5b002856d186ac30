"""The extra `grpc` in the environments that people have: beside the clients, which take protobuf 6, and with protobuf 7."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from tests.clients.environments import ROOT, python_of
from tests.clients.models import CODE, publish_identity
from tests.clients.test_clients import call
from tests.test_server import serving

pytestmark = pytest.mark.clients


@pytest.mark.parametrize(
    ("environment", "protobuf", "beside"),
    [("together", "6", ["kserve", "tritonclient"]), ("protobuf-7", "7", [])],
)
def test_server_and_own_client_run_with(
    environment: str, protobuf: str, beside: list[str], tmp_path: Path
) -> None:
    """A server of the environment answers a client of the environment over gRPC, whichever protobuf is in it."""
    python = python_of(environment)
    assert installed(python, "protobuf").split(".")[0] == protobuf
    assert all(installed(python, package) for package in beside)
    publish_identity(tmp_path / "models", "float32")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        grpc_port = int(listener.getsockname()[1])
    options = {"allow_code": [CODE], "server": {"port": 0, "grpc_port": grpc_port}}
    source = [
        "env",
        f"PYTHONPATH={ROOT / 'src'}",
    ]  # the environment has what the server needs, not the server
    with serving(tmp_path / "models", tmp_path, under=source, python=python, **options) as server:
        program = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().split(b"\0")[0]
        assert program.decode() == str(python)
        call(environment, "own_stub", "is_answered", f"127.0.0.1:{server.port}", f"127.0.0.1:{grpc_port}")


def installed(python: Path, package: str) -> str:
    """Its version; an error where it is not there."""
    code = f"from importlib.metadata import version; print(version({package!r}), end='')"
    ended = subprocess.run([str(python), "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return ended.stdout
