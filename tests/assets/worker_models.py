"""Models for tests of model processes: plain NumPy, so that a process is there in no time; each with one habit."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from maas.types import Tensors


class Double:
    """y = 2 x."""

    def __init__(self, directory: Path, device: str) -> None:
        pass

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * 2}


class Product(Double):
    """y = x · by."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"] * inputs["by"]}


class Moody(Double):
    """Doubles, unless the first element of a row says otherwise: -1 raises, -2 dies, -3 gives a row too many, -4 NaN, -5 raises with
    half a character, -6 exits, -7 dies and leaves a child behind that holds its descriptors."""

    def run(self, inputs: Tensors) -> Tensors:
        moods = set(inputs["x"][:, 0].tolist())
        if -1 in moods:
            raise RuntimeError(f"no such thing in {Path('/secret/place')}")
        if -2 in moods:
            os.kill(os.getpid(), signal.SIGKILL)
        if -3 in moods:
            return {"y": np.concatenate([inputs["x"], inputs["x"][:1]])}
        if -4 in moods:
            return {"y": inputs["x"] * np.float32("nan")}
        if -5 in moods:
            raise ValueError("\ud800")
        if -6 in moods:
            sys.exit(3)
        if -7 in moods:
            if os.fork() == 0:
                time.sleep(60)
            os.kill(os.getpid(), signal.SIGKILL)
        return {"y": inputs["x"] * 2}


class Noisy(Double):
    """Doubles, and writes as its first element says: 1 lines of every kind, 2 a megabyte in one line, 3 a flood of 50,000 lines,
    4 half a line and its death."""

    def run(self, inputs: Tensors) -> Tensors:
        match int(inputs["x"].flat[0]):
            case 1:
                sys.stdout.write("from Python\r\nsecond\x1b[31mred\n")
                os.write(2, b'from C \xe2\x82\n{"event": "forged"}\n')
                os.system("echo from a child")
            case 2:
                os.write(1, b"m" * (1 << 20) + b"\n")
            case 3:
                sys.stdout.write("".join(f"flood {number}\n" for number in range(50_000)))
            case 4:
                os.write(2, b"last words")
                os.kill(os.getpid(), signal.SIGKILL)
        return {"y": inputs["x"] * 2}


class Slow(Double):
    """Doubles after as many milliseconds as its first element says."""

    def run(self, inputs: Tensors) -> Tensors:
        time.sleep(float(inputs["x"].flat[0]) / 1e3)
        return {"y": inputs["x"] * 2}


class Mlp(Double):
    """Three layers over 16 features, and five milliseconds of work however large the batch."""

    def __init__(self, directory: Path, device: str) -> None:
        generator = np.random.default_rng(0)
        self._layers = [generator.normal(size=(16, 16)).astype(np.float32) / 4 for _ in range(3)]

    def run(self, inputs: Tensors) -> Tensors:
        started = time.perf_counter()
        value = inputs["x"]
        for layer in self._layers:
            value = np.maximum(value @ layer, 0)
        time.sleep(max(0.0, 0.005 - (time.perf_counter() - started)))
        return {"y": value}


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class Hungry(Double):
    """Has memory for four rows; beyond, it raises as Python does, or where the first element is 2, as torch does."""

    def run(self, inputs: Tensors) -> Tensors:
        if len(inputs["x"]) > 4:
            raise OutOfMemoryError if inputs["x"].flat[0] == 2 else MemoryError
        return {"y": inputs["x"] * 2}


class Repeat(Double):
    """Answers each number of elements with as many bytes of text: answers of any size."""

    def run(self, inputs: Tensors) -> Tensors:
        texts = np.empty(len(inputs["n"]), dtype=object)
        for index, count in enumerate(inputs["n"]):
            texts[index] = b"x" * int(count)
        return {"text": texts}


class Facts(Double):
    """What its process is like: pid, threads that libraries were told to use, out-of-memory score, SIGTERM's fate."""

    def run(self, inputs: Tensors) -> Tensors:
        facts = [
            os.getpid(),
            int(os.environ.get("OMP_NUM_THREADS", "0")),
            int(Path("/proc/self/oom_score_adj").read_text()),
            int(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN),
        ]
        return {"facts": np.tile(np.array(facts, np.int64), (len(inputs["x"]), 1))}


class DiesWhileLoading(Double):
    """Its process does not survive the constructor, but where it is published."""

    def __init__(self, directory: Path, device: str) -> None:
        if os.environ.get("OMP_NUM_THREADS"):
            os.kill(os.getpid(), signal.SIGKILL)


class Late(Double):
    """Doubles, once it has taken a second to load in a model process."""

    def __init__(self, directory: Path, device: str) -> None:
        if "maas.workers.forkserver" in sys.orig_argv:
            time.sleep(1)
        super().__init__(directory, device)


class Positions(Double):
    """Per place twice its value, and the mean of the places that the mask lets in; a batch takes some milliseconds."""

    def run(self, inputs: Tensors) -> Tensors:
        time.sleep(0.004)
        x, mask = inputs["x"], inputs["mask"]
        return {"y": x * 2, "mean": (x * mask).sum(axis=1) / mask.sum(axis=1)}
