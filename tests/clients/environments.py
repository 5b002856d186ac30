"""A client's own environment, with the versions that its file pins and nothing else.

`python -m tests.clients.environments` makes those that are missing, as `make clients` does first; a test that finds none makes it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "build/clients"
REQUIREMENTS = Path(__file__).parent / "requirements"
_INSTALLER = "uv"  # which pip installs, and which installs the others in a tenth of the time that pip takes
# perf_analyzer is built for no earlier C library; `perf_analyzer.py` has it run on machines with one.
_PLATFORMS = {"tritonclient": ["--python-platform", "x86_64-manylinux_2_39"]}
_MINUTES = 10


class NotInstalled(Exception):
    """A client's packages could not be had; says so with the installer's own words."""


@cache
def python_of(client: str) -> Path:
    """The interpreter of `build/clients/CLIENT`."""
    folder, pins = CLIENTS / client, REQUIREMENTS / f"{client}.txt"
    python, marker = folder / "bin/python", folder / ".installed"
    if not marker.exists() or marker.read_text() != pins.read_text():
        if client == _INSTALLER:
            _run(client, [sys.executable, "-m", "venv", "--clear", str(folder)])
            _run(client, [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pins)])
        else:
            uv = str(python_of(_INSTALLER).parent / "uv")
            _run(client, [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
            # Each file pins all that its client needs; `--no-deps` keeps out what a later release would bring besides.
            install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
            _run(client, [*install, *_PLATFORMS.get(client, ()), "--requirement", str(pins)])
        marker.write_text(pins.read_text())
    return python


def _run(client: str, command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_MINUTES * 60)
    if ended.returncode != 0:
        raise NotInstalled(
            f"the packages of {client!r} could not be installed; is the package index to be reached? "
            f"({' '.join(command)})\n{(ended.stdout + ended.stderr)[-2000:]}"
        )


def main() -> None:
    """Make every environment."""
    started = time.monotonic()
    try:
        for pins in sorted(REQUIREMENTS.glob("*.txt")):
            python_of(pins.stem)
    except NotInstalled as why:
        sys.exit(str(why))
    sys.stdout.write(f"the clients' environments are made ({time.monotonic() - started:.0f} s)\n")


if __name__ == "__main__":
    main()
