"""The suite's own models: plain NumPy, so that a process is there in no time."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
from benchmarks.torture.ledger import write_run

from maas.types import Tensors

RAISES, CRASHES, HANGS, NOT_A_NUMBER, SLEEPS_IN_C = -1.0, -2.0, -3.0, -4.0, -5.0


class Double:
    """y = 2 x, at once."""

    def __init__(self, directory: Path, device: str) -> None:
        pass

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * 2}


class Habit(Double):
    """Doubles [milliseconds, number] after the most milliseconds of the batch, whatever its size; a first element
    below zero is a habit instead."""

    def run(self, inputs: Tensors) -> Tensors:
        habits = inputs["x"][:, 0]
        write_run(inputs["x"][:, 1].tolist())
        least = float(habits.min())
        if least == RAISES:
            raise RuntimeError("this row raises")
        if least == CRASHES:
            ctypes.string_at(0)
        while least == HANGS:
            pass
        if least == SLEEPS_IN_C:
            ctypes.CDLL(None).sleep(3600)
        time.sleep(max(0.0, float(habits.max())) / 1e3)
        answer = inputs["x"] * 2
        answer[habits == NOT_A_NUMBER] = np.nan
        return {"y": answer}


class DiesOnLoad(Double):
    """Its process does not survive the constructor, but where its version is written."""

    def __init__(self, directory: Path, device: str) -> None:  # noqa: ARG002
        if ".staged" not in str(directory):
            ctypes.string_at(0)


class NeverLoads(Double):
    """Its constructor takes for ever, but where its version is written."""

    def __init__(self, directory: Path, device: str) -> None:  # noqa: ARG002
        while ".staged" not in str(directory):
            time.sleep(1)


class Slow(Double):
    """Right, and a tenth of a second late."""

    def run(self, inputs: Tensors) -> Tensors:
        time.sleep(0.1)
        return {"y": inputs["x"] * 2}


class Triple(Double):
    """y = 3 x: not what a golden sample of `Double` expects."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * 3}


class Narrow(Double):
    """Answers with fewer columns than it declares."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"][:, :1] * 2}


class NotANumber(Double):
    """Answers NaN to everything."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * np.float32("nan")}


class Stamp(Double):
    """Answers with the number of its own version, and of the request."""

    def __init__(self, directory: Path, device: str) -> None:  # noqa: ARG002
        self._version = float(directory.name)

    def run(self, inputs: Tensors) -> Tensors:
        answer = inputs["x"] * 2
        answer[:, 0] = self._version
        return {"y": answer}


class Long:
    """Answers each number with as many bytes of text."""

    def __init__(self, directory: Path, device: str) -> None:
        pass

    def run(self, inputs: Tensors) -> Tensors:
        texts = np.empty(len(inputs["n"]), dtype=object)
        for index, count in enumerate(inputs["n"]):
            texts[index] = b"x" * int(count)
        return {"text": texts}


class Wide(Double):
    """Sums many numbers: its requests may be megabytes of JSON."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"].sum(axis=1)}
