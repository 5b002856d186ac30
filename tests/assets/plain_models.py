"""Python classes that tests publish; importable, so that a model process can build them again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from maas.types import Tensors


class Affine:
    """Two outputs, `y` and the sum of its columns, from weights in a file of its own where there is one."""

    def __init__(self, directory: Path, device: str, gain: float = 1.0) -> None:
        file = directory / "weights.json"
        weights = json.loads(file.read_text()) if file.exists() else [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
        self._weights = np.array(weights, np.float32) * np.float32(gain)
        self.device = device

    def run(self, inputs: Tensors) -> Tensors:
        # Element by element, so that the number of rows cannot change the order of additions.
        y = (inputs["x"][:, :, None] * self._weights).sum(axis=1, dtype=np.float32)
        return {"y": y, "total": y.sum(axis=1, dtype=np.float32)}


class Shout:
    """Upper case of each text."""

    def __init__(self, directory: Path, device: str) -> None:
        pass

    def run(self, inputs: Tensors) -> Tensors:
        loud = np.empty(inputs["text"].shape, dtype=object)
        for index, text in np.ndenumerate(inputs["text"]):
            loud[index] = text.upper()
        return {"loud": loud}


class Unfinished:
    """Has no `run`."""

    def __init__(self, directory: Path, device: str) -> None:
        pass
