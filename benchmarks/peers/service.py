"""Servers to compare with: a bare uvicorn and a naive FastAPI, which need nothing more, and peers in environments of their own.

By itself a peer has one worker of one thread and a batch limit of 32, as most people run them. Its packages are pinned in `PEER.txt`
and installed below `build/peers`; torch and NumPy are those of this environment, so that all compute with the same build.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Serving, free_port, is_answered, running, wait_for

PEERS = ("mosec", "litserve")
_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_INSTALLING, _READY = 15 * 60.0, 120.0  # seconds

READY = {"echo": {"x": [0.5] * 8}, "mlp": {"x": [0.5] * 16}, "encoder": {"ids": [1] * 8}}
PATHS = {"bare uvicorn": "/", "naive FastAPI": "/predict", "mosec": "/inference", "litserve": "/predict"}


@contextmanager
def bare_uvicorn(folder: Path) -> Iterator[Serving]:
    """An ASGI application without a framework that reads the JSON and gives it back: the floor of this HTTP stack."""
    command = [sys.executable, "-m", "benchmarks.peers.bare"]
    with _serving(command, folder / "bare.log", "/", READY["echo"]) as server:
        yield server


@contextmanager
def naive_fastapi(folder: Path) -> Iterator[Serving]:
    """A FastAPI endpoint with the perceptron in it, without batches, limits or a process for the model."""
    command = [sys.executable, "-m", "benchmarks.peers.naive"]
    with _serving(command, folder / "naive.log", PATHS["naive FastAPI"], READY["mlp"]) as server:
        yield server


@contextmanager
def peer(name: str, model: str, folder: Path, workers: int = 1, batch: int = 32) -> Iterator[Serving]:
    """`model` is one of `READY`."""
    python = str(_environment(name) / "bin/python")
    command = [python, "-m", f"benchmarks.peers.{name}_server", model, str(workers), str(batch)]
    log = folder / f"{name}-{workers}-{batch}.log"
    with _serving(command, log, PATHS[name], READY[model]) as server:
        yield server


def version_of(name: str) -> str:
    """`name version`, as pinned."""
    lines = (_HERE / f"{name}.txt").read_text().splitlines()
    return next(line.replace("==", " ") for line in lines if line.startswith(f"{name}=="))


@contextmanager
def _serving(command: list[str], log: Path, path: str, body: object) -> Iterator[Serving]:
    """A server that is told its port as its last argument; ready when it has answered."""
    port = free_port()
    with running([*command, str(port)], log) as process:

        def has_answered() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{command[2]} ended with {process.returncode}: {log.read_text()[-2000:]}")
            return is_answered(port, path, body)

        wait_for(has_answered, _READY, every=0.1)
        yield Serving(port, process.pid)


def _environment(name: str) -> Path:
    folder = _ROOT / "build/peers" / name
    marker, pins = folder / ".installed", (_HERE / f"{name}.txt").read_text()
    if not marker.exists() or marker.read_text() != pins:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
        install = ["-m", "pip", "install", "--quiet", "--requirement", str(_HERE / f"{name}.txt")]
        subprocess.run([str(folder / "bin/python"), *install], check=True, timeout=_INSTALLING)
        (_packages_of(folder) / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        marker.write_text(pins)
    return folder


def _packages_of(environment: Path) -> Path:
    """What stands in a `.pth` file there is looked at after the environment's own packages."""
    return next(environment.glob("lib/python3.*/site-packages"))
