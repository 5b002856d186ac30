"""A version's PyTorch model as `model.onnx`, by `torch.onnx` from its exported program."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch._logging._internal import set_logs
from torch.export import ExportedProgram

from maas.errors import BadArtifact
from maas.runtimes.contract import Artifact
from maas.runtimes.torch.export import trace
from maas.runtimes.torch.exported import load_program
from maas.runtimes.torch.module import load_module
from maas.types import Tensors, TensorSpec

MODEL = "model.onnx"

_ERRORS = 40  # a level of `logging`
_LARGEST = 1800 << 20  # bytes of weights: a file of protocol buffers ends at 2 GB


def write_onnx(directory: Path, artifact: Artifact, sample: Tensors) -> None:
    """Write the model of `artifact` to `directory`, with the declared names of tensors and dimensions.

    A module is exported first, with `sample` as its inputs. Raises `BadArtifact` where it does not export, holds an operator
    that ONNX has not, or is too large for one file.
    """
    program = _program(artifact, sample)
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    if size > _LARGEST:
        raise BadArtifact(f"its weights have {size} bytes; one ONNX file holds {_LARGEST}")
    inputs, outputs = artifact.signature.inputs, artifact.signature.outputs
    try:
        with _silence():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
                dynamic_shapes=tuple(map(_names, inputs)),
            )
            assert converted is not None, "without a file name it is returned"
            converted.save(directory / MODEL)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # its exporter raises classes of many modules
        raise BadArtifact(f"it does not convert to ONNX: {type(error).__name__}", trace=str(error)) from error


def _program(artifact: Artifact, sample: Tensors) -> ExportedProgram:
    if artifact.options.get("format") == "exported":
        return load_program(artifact)
    return trace(load_module(artifact, torch.device("cpu")), artifact.signature, sample)


def _names(spec: TensorSpec) -> dict[int, str]:
    return {axis: dim for axis, dim in enumerate(spec.dims) if isinstance(dim, str)}


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the exporter says of packages that it does not find and of its own deprecations."""
    set_logs(onnx=_ERRORS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
