"""Importing this is running a stranger's code: tests look whether it has been."""

import os
from pathlib import Path

if marker := os.environ.get("CANARY"):
    Path(marker).touch()


class Canary:
    def __init__(self, directory: Path, device: str) -> None:
        pass

    def run(self, inputs: dict) -> dict:
        return inputs
