"""The README's lines for clients that others wrote, as they stand."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.clients.demo_server import checked, demo_server
from tests.clients.environments import ROOT, python_of
from tests.test_documentation import assert_same, of_kind
from tests.test_server import Server, serving

__all__ = ["demo_server"]  # the fixture

pytestmark = pytest.mark.clients

MODELS = ROOT / "build/clients/models"


def test_readme_calls_over_grpc(demo_server: Server, tmp_path: Path) -> None:
    """The lines of `tritonclient` print what the README says, against the models that it says."""
    (example,) = of_kind("tritonclient")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = {"port": 0, "grpc_port": port}
    with serving(MODELS, tmp_path, allow_code=["tests.clients"], server=options):
        code = example.code.replace("localhost:8001", f"127.0.0.1:{port}")
        command = [str(python_of("tritonclient")), "-c", code]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert_same(ended.stdout, example.output)


def test_readme_generates_an_sdk(demo_server: Server, tmp_path: Path) -> None:
    """The lines of the generator leave a package that has an operation for the model."""
    found = re.search(r"<!-- example: sdk -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "models").symlink_to(MODELS)
    environments = [Path(sys.executable).parent, python_of("openapi-python-client").parent]
    path = os.pathsep.join([*map(str, environments), os.environ["PATH"]])
    checked(["env", f"PATH={path}", "sh", "-ec", found[1]], tmp_path)
    assert (tmp_path / "sdk/api/predict/predict_longley.py").exists()
