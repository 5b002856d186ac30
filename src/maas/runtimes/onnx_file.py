"""An ONNX file as its author has it: what it declares, and the files of a version from it, with golden samples that it answers.

ONNX names its dimensions as it likes. Here `batch` is a first dimension that it names so or not at all, or that an exporter has
numbered; other names stay variable dimensions, numbers are fixed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas import runtimes
from maas.dtypes import BFLOAT16, DTYPES
from maas.errors import InvalidRequest, ModelFailed
from maas.runtimes.contract import Artifact, Placement
from maas.runtimes.golden import GoldenSample, save_golden
from maas.types import BATCH, Signature, Tensors, clip

# As people call it, and as exporters do that were told no name: `s77` of PyTorch, `unk__5` of TensorFlow's.
_BATCH = re.compile(r"batch|batch_?size|bs|n|[su]\d+|unk__\d+|\w+_dynamic_axes_\d+", re.IGNORECASE)
_TENSOR = re.compile(r"tensor\((\w+)\)")
_ELEMENTS = {"float": "float32", "double": "float64", "string": "bytes"}  # where the names differ from ours


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A file that ONNX Runtime opens. `inputs` and `outputs` are its nodes, as ONNX Runtime tells them."""

    path: Path
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @classmethod
    def open(cls, path: Path) -> OnnxFile:
        """Raises `InvalidRequest` for what is no such file, `BadArtifact` where it does not load or the engine is missing."""
        if path.suffix != ".onnx":
            raise InvalidRequest(
                f"{str(path)!r} is no model; of files, one that ends in .onnx is, and a folder with model.yaml is published "
                "by `maas publish`"
            )
        if not path.is_file():
            raise InvalidRequest(f"{str(path)!r} is no file")
        runtimes.runtime("onnxruntime")  # which says what to install
        from maas.runtimes.onnxruntime import open_session

        session = open_session(path, Placement())
        return cls(path, tuple(session.get_inputs()), tuple(session.get_outputs()))

    @property
    def names(self) -> list[str]:
        """Of the inputs, in their order."""
        return [node.name for node in self.inputs]

    def declared_inputs(self) -> dict[str, str]:
        """Raises `InvalidRequest` naming what cannot be declared as it stands."""
        return {node.name: _declaration("input", node) for node in self.inputs}

    def declared_outputs(self) -> dict[str, str]:
        """Raises `InvalidRequest` as well."""
        return {node.name: _declaration("output", node) for node in self.outputs}

    def write(self, directory: Path, signature: Signature, samples: Sequence[Tensors]) -> dict[str, Any]:
        """Copy it to `directory`, with its weights where they lie beside it, and return the manifest's runtime options.

        Raises `BadArtifact` where it is not as declared, `ModelFailed` where it does not answer the sample inputs.
        """
        from maas.runtimes.onnxruntime import MODEL

        shutil.copyfile(self.path, directory / MODEL)
        for file in self._weights():
            shutil.copyfile(file, directory / file.name)
        runner = runtimes.runtime("onnxruntime").load(Artifact(directory, signature, {}), Placement())
        try:
            golden = [GoldenSample(sample, runner.run(sample)) for sample in samples]
        except Exception as error:  # classes of its own
            said = clip(" ".join(str(error).split()), 300)
            raise ModelFailed(f"{self.path.name} does not answer the example inputs: {said}") from error
        save_golden(directory, golden)
        return {"name": "onnxruntime"}

    def _weights(self) -> Iterator[Path]:
        """What exporters put beside a file that is too large: `model.onnx.data`, `model.onnx_data`."""
        for file in sorted(self.path.parent.glob("*")):
            if file.name.startswith(self.path.name) and file.name != self.path.name and file.is_file():
                yield file


def _declaration(kind: str, node: Any) -> str:
    element = _TENSOR.fullmatch(node.type)
    dtype = _ELEMENTS.get(element[1], element[1]) if element else ""
    if dtype not in DTYPES or dtype == BFLOAT16:  # which ONNX Runtime does not exchange with NumPy
        what = (
            "leave it out by declaring the others as outputs=…" if kind == "output" else "no request has it"
        )
        raise InvalidRequest(
            f"{kind} {node.name!r} is {node.type}, which is no tensor of a known dtype: {what}"
        )
    if node.shape is None:
        raise InvalidRequest(
            f"{kind} {node.name!r} has no shape: declare it, as in {node.name}='{dtype}[batch, 3]'"
        )
    dims = [_dim(kind, node.name, dtype, axis, dim) for axis, dim in enumerate(node.shape)]
    return f"{dtype}[{', '.join(dims)}]"


def _dim(kind: str, tensor: str, dtype: str, axis: int, dim: object) -> str:
    if isinstance(dim, int):
        return str(dim)
    if axis == 0 and (not dim or _BATCH.fullmatch(str(dim))):
        return BATCH
    if not dim:
        raise InvalidRequest(
            f"{kind} {tensor!r} has a dimension without a name or length at axis {axis}: declare it, as in "
            f"{kind}s={{{tensor!r}: '{dtype}[batch, …]'}}"
        )
    name = re.sub(r"\W+", "_", str(dim).lower(), flags=re.ASCII).strip("_")[:32]
    return name if re.match("[a-z_]", name) else f"dim_{name}"[:32]
