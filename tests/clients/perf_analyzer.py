"""`perf_analyzer`, the load generator that `tritonclient[all]` brings, as a command that this machine can run.

It is built for glibc 2.38. Where the machine's is older, the libraries of Debian 13 are laid in a folder below `build`, and the loader
among them starts it; nothing of the machine is changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.clients.environments import CLIENTS, python_of

_NEEDS = (2, 38)
_PACKAGES = ["libc6", "libgcc-s1", "libssl3t64", "libstdc++6", "libzstd1", "zlib1g"]
_LIBRARIES = CLIENTS / "debian-13"
_SECONDS = 300


def perf_analyzer() -> list[str]:
    """The command, without its arguments."""
    (program,) = python_of("tritonclient").parent.parent.glob(
        "lib/*/site-packages/perf_analyzer/bin/perf_analyzer"
    )
    if _glibc() >= _NEEDS:
        return [str(program)]
    if os.uname().machine != "x86_64" or shutil.which("apt-get") is None:
        pytest.skip("perf_analyzer needs glibc 2.38, and this is no Debian that it could be taken from")
    libraries = _libraries()
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(program)]


def _glibc() -> tuple[int, ...]:
    return tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")))


def _libraries() -> Path:
    """Where the libraries lie, which are fetched once."""
    folder = _LIBRARIES / "usr/lib/x86_64-linux-gnu"
    marker = _LIBRARIES / ".installed"
    if not marker.exists():
        shutil.rmtree(_LIBRARIES, ignore_errors=True)
        options = _apt(_LIBRARIES / "apt")
        _checked(["apt-get", *options, "update"], _LIBRARIES)
        _checked(["apt-get", *options, "download", *_PACKAGES], _LIBRARIES)
        for package in _LIBRARIES.glob("*.deb"):
            _checked(["dpkg-deb", "--extract", package.name, "."], _LIBRARIES)
        marker.touch()
    return folder


def _apt(folder: Path) -> list[str]:
    """An apt of its own, which knows Debian 13 by the mirror that this machine's own apt uses, and no installed package."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    sites = _checked(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"], folder
    ).split()
    mirror = next(site for site in sites if site.rstrip("/").endswith("/debian"))
    (folder / "sources.list").write_text(f"deb {mirror} trixie main\n")
    places = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return [argument for name, value in places.items() for argument in ("-o", f"{name}={value}")]


def _checked(command: list[str], folder: Path) -> str:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr[-2000:]}"
    return ended.stdout
