"""The load test with locust, as people run it."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.clients.environments import ROOT, python_of
from tests.test_server import Server

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("model", ["add_sub", "upper", "reverse"])
def test_locust_loads_a_model_without_a_failure(model: str, server: Server) -> None:
    """Both dialects are asked, and every answer is good: numbers, texts, variable lengths."""
    command = [
        str(python_of("locust").parent / "locust"),
        "-f",
        "benchmarks/locustfile.py",
        "--host",
        server.url,
    ]
    options = ["--model", model, "--headless", "-u", "3", "-r", "3", "-t", "2s", "--json"]
    result = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr[-2000:]
    asked = {entry["name"]: entry for entry in json.loads(result.stdout)}
    for path in (f"/predict/{model}", f"/v2/models/{model}/infer"):
        assert asked[path]["num_requests"] > 0
        assert asked[path]["num_failures"] == 0
