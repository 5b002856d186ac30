"""A peer's own environment, made when it is first asked for, with the versions that its file pins."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
_PINS = ROOT / "benchmarks/torture/peers"
_MINUTES = 15


def environment_of(peer: str) -> Path:
    """The folder of its programs, below `build/torture/PEER`."""
    folder = ROOT / "build/torture" / peer
    marker = folder / ".installed"
    pins = _PINS / f"{peer}.txt"
    if not marker.exists() or marker.read_text() != pins.read_text():
        run = [sys.executable, "-m", "venv", "--clear", str(folder)]
        subprocess.run(run, check=True, timeout=120)
        install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--requirement", str(pins)]
        subprocess.run(install, check=True, timeout=_MINUTES * 60)
        marker.write_text(pins.read_text())
    return folder / "bin"


def version_of(peer: str) -> str:
    """`name version, with uvicorn version` as pinned."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (_PINS / f"{peer}.txt").read_text(), re.MULTILINE))
    return f"{peer} {pins[peer]}, uvicorn {pins['uvicorn']}, Python {sys.version.split()[0]}"
