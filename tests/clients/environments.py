"""A client's own environment, made when it is first asked for, with the versions that its file pins and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_REQUIREMENTS = Path(__file__).parent / "requirements"
_MINUTES = 10


def python_of(client: str) -> Path:
    """The interpreter of `build/clients/CLIENT`."""
    folder = ROOT / "build/clients" / client
    pins = _REQUIREMENTS / f"{client}.txt"
    marker = folder / ".installed"
    python = folder / "bin/python"
    if not marker.exists() or marker.read_text() != pins.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
        # Each file pins all that its client needs; `--no-deps` keeps out what a later release would bring besides.
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--requirement", str(pins)], check=True, timeout=_MINUTES * 60)
        marker.write_text(pins.read_text())
    return python
