"""An SDK that `openapi-python-client` generates calls the demo models with no edit by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.clients.demo_server import GENERATED, checked, demo_server, document
from tests.clients.environments import python_of
from tests.test_server import Server

__all__ = ["demo_server", "document"]  # the fixtures

pytestmark = pytest.mark.clients

CALLS = Path(__file__).parent / "generated_python.py"


def test_generated_python_sdk_calls_every_demo_model(demo_server: Server, document: Path) -> None:
    """Every typed operation answers as its example says; errors, Open Inference and the catalogue are typed as well."""
    python = python_of("openapi-python-client")
    sdk = GENERATED / "python"
    shutil.rmtree(sdk, ignore_errors=True)
    sdk.mkdir()
    # `--fail-on-warning`: an operation that it would leave out is a fault of the document.
    generator = [
        str(python.parent / "openapi-python-client"),
        "generate",
        "--fail-on-warning",
        "--meta",
        "none",
    ]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # where it finds the formatter that it runs
    checked(
        ["env", f"PATH={path}", *generator, "--path", str(document), "--output-path", str(sdk / "maas_sdk")],
        sdk,
    )
    checked(["env", f"PYTHONPATH={sdk}", str(python), str(CALLS), str(document), demo_server.url], sdk)
