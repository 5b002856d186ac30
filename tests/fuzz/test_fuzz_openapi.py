"""A running server holds what its own OpenAPI document says: `schemathesis` with all its checks, over real HTTP."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.models import publish_all
from tests.test_server import Server, serving

SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Models of all kinds of signatures. Operators' operations act, since it is bound to loopback."""
    folder = tmp_path_factory.mktemp("fuzz")
    publish_all(folder / "models")
    with serving(folder / "models", folder) as running:
        yield running


def assert_document_holds(server: Server, *options: str, seconds: float) -> None:
    """Run `schemathesis` on every operation; what it finds becomes the message."""
    operations = sum(map(len, server.get("/openapi.json").json()["paths"].values()))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS)]
    command += ["run", f"{server.url}/openapi.json", "--checks", "all", "--no-color", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    generated = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert generated is not None
    assert int(generated[1]) == int(generated[2]) > 50 * operations
    assert f"Tested: {operations}" in done.stdout
    assert server.get("/v2/health/ready").status_code == 200


def test_server_answers_as_its_document_says(server: Server) -> None:
    """Valid and invalid requests alike get a documented answer of a documented form, and none of them a 5xx."""
    assert_document_holds(server, "--max-examples", "10", "--generation-deterministic", seconds=240)


@pytest.mark.slow
def test_server_answers_as_its_document_says_at_length(server: Server) -> None:
    """The same with other requests at each run; the output names the seed."""
    assert_document_holds(server, "--max-examples", "100", seconds=1500)
