"""A candidate's files: the parent's, or its model converted to ONNX, with the parent's golden samples beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from maas.dtypes import is_float
from maas.errors import BadArtifact
from maas.models.manifest import RuntimeOptions
from maas.models.publishing import draft
from maas.models.repository import StoredVersion
from maas.optimizing.candidates import Candidate
from maas.runtimes.contract import MANIFEST, Artifact
from maas.runtimes.golden import GOLDEN, GoldenSample
from maas.types import Tensors, Tolerance

_ANY_NUMBER = Tolerance(relative=0.0, absolute=1e30)  # how far off answers are is measured, not asked


class Workshop:
    """Makes candidates of one version below `folder`; what several need, such as the graph, is made once."""

    def __init__(
        self,
        folder: Path,
        parent: StoredVersion,
        samples: Sequence[GoldenSample],
        allow_code: Sequence[str],
    ) -> None:
        self._folder = folder
        self._parent = parent
        self._samples = samples
        self._allow_code = tuple(allow_code)

    def make(self, candidate: Candidate) -> StoredVersion:
        """The candidate as a version that can be loaded, but that nobody sees. Raises `BadArtifact` where it is not to be had."""
        for package in candidate.needs:
            if find_spec(package) is None:
                raise BadArtifact(f"{package} is not installed: pip install 'maas[optimize]'")
        target = self._folder / candidate.label.replace(" ", "-")
        target.mkdir()
        self._fill(target, candidate)
        parent = self._parent.manifest
        description = parent.model_copy(
            update={
                "runtime": RuntimeOptions(name=candidate.engine, **candidate.options),
                "tolerances": dict.fromkeys(_float_types(self._parent), _ANY_NUMBER),
            }
        )
        return draft(target, description, parent.name, parent.version)

    def _fill(self, target: Path, candidate: Candidate) -> None:
        if candidate.engine == self._parent.manifest.runtime.name and candidate.precision != "int8":
            _copy(self._parent.directory, target, self._parent.manifest.files)
            return
        shutil.copy(self._parent.directory / GOLDEN, target)
        graph = self._graph()
        if candidate.precision == "int8":
            from maas.runtimes.onnxruntime import check_dtypes, quantize

            check_dtypes(
                self._parent.manifest.signature
            )  # else there is much ado about a file that cannot be run
            quantize(graph, target)
        else:
            _copy(graph.parent, target, [each.name for each in graph.parent.iterdir()])

    def _graph(self) -> Path:
        """The model as ONNX, in a folder with what belongs to it."""
        if self._parent.manifest.runtime.name != "torch":
            return self._alone()
        folder = self._folder / "graph"
        graph = folder / "model.onnx"
        if not graph.exists():
            from maas.runtimes.torch.onnx import write_onnx

            folder.mkdir(exist_ok=True)
            write_onnx(folder, self._artifact(), self._example())
        return graph

    def _alone(self) -> Path:
        folder = self._folder / "graph"
        if not folder.exists():
            folder.mkdir()
            _copy(
                self._parent.directory,
                folder,
                [name for name in self._parent.manifest.files if name != GOLDEN],
            )
        return folder / "model.onnx"

    def _artifact(self) -> Artifact:
        manifest = self._parent.manifest
        return Artifact(
            self._parent.directory, manifest.signature, manifest.runtime.options, self._allow_code
        )

    def _example(self) -> Tensors:
        return self._samples[0].inputs


def finished(made: StoredVersion) -> Callable[[Path], None]:
    """A `fill` for publishing: the files of a candidate."""
    return lambda target: _copy(made.directory, target, made.manifest.files)


def _copy(source: Path, target: Path, names: Sequence[str] | dict[str, str]) -> None:
    for name in names:
        if name != MANIFEST:
            shutil.copyfile(source / name, target / name)


def _float_types(stored: StoredVersion) -> set[str]:
    return {spec.dtype for spec in stored.manifest.signature.outputs if is_float(spec.numpy_dtype)}
