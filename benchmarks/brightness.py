"""A model that costs next to nothing over inputs that are large: what is measured is their way to it."""

from __future__ import annotations

from pathlib import Path

from maas.types import Tensors


class Brightness:
    def __init__(self, directory: Path, device: str) -> None:
        del directory, device

    def run(self, inputs: Tensors) -> Tensors:
        return {"mean": inputs["image"].mean((1, 2, 3))}
