"""Runs a Python class of the user's: `runtime: {name: python, class: package.module:Class, arguments: {…}}`.

The class is constructed as `Class(directory, device, **arguments)`, where `directory` holds the version's files, and
must have `run(inputs) -> outputs` over mappings of tensor name → array. It is code, so the configuration must
name its module under `allow_code`. The process's environment has told OpenMP, OpenBLAS and MKL the number of
threads before anything of the class was imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maas.errors import BadArtifact
from maas.runtimes.code import import_class, path_of
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.golden import GoldenSample, save_golden
from maas.tensors.check import check_inputs, check_outputs
from maas.types import Signature, Tensors


class PythonRuntime:
    def load(self, artifact: Artifact, placement: Placement) -> Runner:
        path = artifact.options.get("class")
        if not isinstance(path, str):
            raise BadArtifact("runtime 'python' needs `class: package.module:Class`")
        cls = import_class(path, artifact.allow_code)
        if not callable(getattr(cls, "run", None)):
            raise BadArtifact(f"class {path!r} has no method `run(inputs)`")
        runner: Runner = cls(artifact.directory, placement.device, **artifact.options.get("arguments", {}))
        return runner


def write_class(
    directory: Path, cls: type, signature: Signature, samples: Sequence[Tensors], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Write golden samples as `cls` answers them, beside its files in `directory`; return the manifest's options."""
    path = path_of(cls)
    runner: Runner = cls(directory, "cpu", **arguments)
    golden = [GoldenSample(sample, runner.run(sample)) for sample in samples]
    for sample in golden:
        check_outputs(signature, sample.outputs, check_inputs(signature, sample.inputs))
    save_golden(directory, golden)
    return {"name": "python", "class": path, "arguments": dict(arguments)}


RUNTIME = PythonRuntime()
