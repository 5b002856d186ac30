"""The types that `openapi-typescript` generates, with `openapi-fetch`, call the demo models with no edit by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.clients.demo_server import GENERATED, checked, demo_server, document
from tests.test_server import Server

__all__ = ["demo_server", "document"]  # the fixtures

pytestmark = pytest.mark.clients

SOURCES = Path(__file__).parent / "typescript"


@pytest.fixture
def project() -> Path:
    """The sources in a folder of their own, with the packages of the lock file."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which comes with Node.js 20 or later, is not installed")
    folder = GENERATED / "typescript"
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True)
    checked(["npm", "ci", "--ignore-scripts", "--prefer-offline"], folder)
    return folder


def test_generated_typescript_sdk_calls_every_demo_model(
    project: Path, demo_server: Server, document: Path
) -> None:
    """The types pass the strict compiler with the calls that are made by them, and every call is answered by its type."""
    checked(["npx", "openapi-typescript", str(document), "--output", "maas.d.ts"], project)
    checked(["npx", "tsc", "--noEmit", "--strict"], project)
    checked(["npx", "tsc"], project)
    checked(["node", "dist/calls.js", str(document), demo_server.url], project)


def test_lock_file_names_no_host() -> None:
    """Packages are told by name, version and hash; where they come from is for who installs them to say."""
    assert "://" not in (SOURCES / "package-lock.json").read_text()
