"""The demo models of `maas train --all`, served for the generated SDKs, and the document that these are generated from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.environments import ROOT
from tests.clients.models import CODE, publish_pair
from tests.test_server import Server, serving

GENERATED = ROOT / "build/clients/generated"
_MODELS = ROOT / "build/clients/models"
_MINUTES = 10


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The models are trained once, and kept below `build`; `add-sub`, which has two inputs and two outputs, is beside them."""
    maas("train", "--all", "--missing", "--repository", str(_MODELS))
    if not (_MODELS / "add-sub").exists():
        publish_pair(_MODELS, "add-sub")
    with serving(_MODELS, tmp_path_factory.mktemp("demo"), allow_code=[CODE]) as running:
        yield running


@pytest.fixture(scope="module")
def document(demo_server: Server) -> Path:
    """A file of what `maas openapi` says of the models, for which it needs no server; this one has the same."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    path = GENERATED / "openapi.json"
    path.write_text(maas("openapi", "--repository", str(_MODELS)))
    return path


def maas(*arguments: str) -> str:
    """What the command prints."""
    return checked([sys.executable, "-m", "maas", *arguments], ROOT)


def checked(command: list[str], folder: Path) -> str:
    """What `command` prints; it fails the test with all that it said where it ends in an error."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60 * _MINUTES)
    assert ended.returncode == 0, f"{ended.stdout[-4000:]}{ended.stderr[-4000:]}"
    return ended.stdout
