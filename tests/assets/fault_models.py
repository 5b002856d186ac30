"""Models that break in the ways that the tests of faults need; honest where they are published, faulty in a model process."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
from tests.assets.worker_models import Double

from maas.types import Tensors


def is_model_process() -> bool:
    """Only a fork server tells its children how many threads they may use."""
    return bool(os.environ.get("OMP_NUM_THREADS"))


def limit_memory(room: int) -> None:
    """Leave this process `room` bytes of addresses beyond those that it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Confined(Double):
    """Has addresses for four rows of 64 MB; NumPy is refused the fifth."""

    def __init__(self, directory: Path, device: str) -> None:
        if is_model_process():
            limit_memory(320 << 20)

    def run(self, inputs: Tensors) -> Tensors:
        if is_model_process():
            np.empty(len(inputs["x"]) * (64 << 20), np.uint8)
        return {"y": inputs["x"] * 2}


class Glutton(Double):
    """Takes as many megabytes of real memory as its first element says, and keeps them."""

    def __init__(self, directory: Path, device: str) -> None:
        self._kept: list[np.ndarray] = []

    def run(self, inputs: Tensors) -> Tensors:
        megabytes = int(inputs["x"].flat[0])
        if megabytes > 1:
            self._kept.append(np.ones(megabytes << 20, np.uint8))
        return {"y": inputs["x"] * 2}


class Numbered(Double):
    """y = x × the number of its version: an answer tells which version it is of."""

    def __init__(self, directory: Path, device: str) -> None:
        self._number = int(directory.name)

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * np.float32(self._number)}


class Misshapen(Double):
    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"][:, :1] if is_model_process() else inputs["x"] * 2}


class Wrong(Double):
    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * (3 if is_model_process() else 2)}


class NotFinite(Double):
    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * np.float32("nan" if is_model_process() else 2)}


class Sluggish(Double):
    """Right, and a tenth of a second late."""

    def run(self, inputs: Tensors) -> Tensors:
        time.sleep(0.1)
        return {"y": inputs["x"] * 2}


class Steady(Double):
    """A tenth of a second a batch, however large."""

    def run(self, inputs: Tensors) -> Tensors:
        time.sleep(0.1)
        return {"y": inputs["x"] * 2}


class Waiting(Double):
    """Doubles after as many milliseconds as its first element says; libfaketime 0.9.10 breaks `time.sleep`."""

    def run(self, inputs: Tensors) -> Tensors:
        threading.Event().wait(float(inputs["x"].flat[0]) / 1e3)
        return {"y": inputs["x"] * 2}
