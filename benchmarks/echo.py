"""A model that gives back what it is given: what is measured is everything else."""

from __future__ import annotations

from pathlib import Path

from maas.types import Tensors


class Echo:
    def __init__(self, directory: Path, device: str) -> None:
        del directory, device

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"].copy()}
