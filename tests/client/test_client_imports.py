"""The client installs and imports without the server."""

from __future__ import annotations

import subprocess
import sys

ALLOWED = ("maas.client", "maas.types", "maas.elements", "maas.dtypes", "maas.tensors", "maas.errors")
SERVER_ONLY = {
    "fastapi",
    "msgspec",
    "prometheus_client",
    "pydantic",
    "safetensors",
    "structlog",
    "torch",
    "uvicorn",
    "yaml",
}


def test_the_client_needs_nothing_of_the_server():
    """Importing `maas.client` loads no other part of `maas` and no library that only the server installs."""
    listing = subprocess.run(
        [sys.executable, "-c", "import maas.client, sys; print(*sys.modules)"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    modules = listing.stdout.split()
    ours = [name for name in modules if name.startswith("maas.") and not name.startswith(ALLOWED)]
    assert ours == []
    assert SERVER_ONLY.isdisjoint(name.partition(".")[0] for name in modules)
    assert "ml_dtypes" not in modules  # which is loaded for who has bfloat16
