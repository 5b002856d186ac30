"""A PyTorch module into the files of a version, with golden samples that the module itself has answered."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.export import Dim, ExportedProgram

from maas.errors import BadArtifact
from maas.runtimes.code import path_of
from maas.runtimes.golden import GoldenSample, save_golden
from maas.runtimes.torch.arrays import to_tensor
from maas.runtimes.torch.exported import PROGRAM
from maas.runtimes.torch.module import WEIGHTS
from maas.runtimes.torch.runner import TorchRunner
from maas.types import BATCH, Signature, Tensors, TensorSpec

_CPU = torch.device("cpu")


def write_exported(
    directory: Path, module: torch.nn.Module, signature: Signature, samples: Sequence[Tensors]
) -> dict[str, Any]:
    """Export `module` to `model.pt2` and return the manifest's runtime options.

    The sample inputs, which `torch.export` keeps by pickling them, and the
    author's source lines are dropped.
    Raises `BadArtifact` where the module does not export, with what to do instead.
    """
    program = trace(module, signature, samples[0])
    program.example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines and paths of the author's own files
    torch.export.save(program, directory / PROGRAM)
    _write_golden(directory, module, signature, samples)
    return {"name": "torch", "format": "exported"}


def trace(module: torch.nn.Module, signature: Signature, sample: Tensors) -> ExportedProgram:
    """`module` as an exported program, whose dynamic dimensions are those that `signature` names.

    Raises `BadArtifact` where the module does not export, with what to do instead.
    """
    example = tuple(_for_tracing(spec, sample[spec.name]) for spec in signature.inputs)
    dims = _dynamic_dims(signature)
    shapes = tuple(
        {axis: dims[dim] for axis, dim in enumerate(spec.dims) if isinstance(dim, str)}
        for spec in signature.inputs
    )
    try:
        with torch.no_grad(), _evaluating(module):
            return torch.export.export(module, example, dynamic_shapes=_by_parameter(module, shapes))
    except Exception as error:  # whatever a module does while it is traced
        raise BadArtifact(
            f"the module does not export with the dimensions {', '.join(dims) or '(all fixed)'}: {error}\n"
            "Declare a dimension that it fixes as a number, or publish with form='module'."
        ) from error


def write_module(
    directory: Path,
    module: torch.nn.Module,
    signature: Signature,
    samples: Sequence[Tensors],
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the weights to `model.safetensors` and return the manifest's runtime options.

    The module is built again as `type(module)(**arguments)` where it is served, so its code must be there.
    """
    path = path_of(type(module))
    save_file(_separate(module.state_dict()), directory / WEIGHTS)
    _write_golden(directory, module, signature, samples)
    return {"name": "torch", "format": "module", "module": path, "arguments": dict(arguments)}


def answer(module: torch.nn.Module, inputs: Tensors) -> Tensors:
    """What `module` answers to `inputs`, given in order; outputs without names are `output`, or `output_0` and so on.

    Raises `ModelFailed` where it returns anything but tensors.
    """
    tensors = [to_tensor(array) for array in inputs.values()]
    with torch.inference_mode(), _evaluating(module):
        result = module(*tensors)
    if isinstance(result, Mapping):
        names = tuple(map(str, result))
    elif isinstance(result, (tuple, list)):
        names = tuple(f"output_{index}" for index in range(len(result)))
    else:
        names = ("output",)
    return TorchRunner(lambda *_: result, (), names, _CPU).run({})


def _write_golden(
    directory: Path, module: torch.nn.Module, signature: Signature, samples: Sequence[Tensors]
) -> None:
    inputs = tuple(spec.name for spec in signature.inputs)
    outputs = tuple(spec.name for spec in signature.outputs)
    runner = TorchRunner(module, inputs, outputs, _CPU)
    with _evaluating(module):
        save_golden(directory, [GoldenSample(sample, runner.run(sample)) for sample in samples])


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode for a while: who publishes in the midst of training goes on as before."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, was_training in modes:
            each.training = was_training


def _separate(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`state` with a copy of each tensor that shares its memory with another, which safetensors does not write."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        storage = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.detach().clone() if storage in seen else tensor.detach().contiguous()
        seen.add(storage)
    return separate


def _for_tracing(spec: TensorSpec, array: Any) -> torch.Tensor:
    """The sample, twice along `batch` where it has one row: `torch.export` takes a length of 1 for a constant."""
    tensor = to_tensor(array)
    if spec.batch_axis is not None and array.shape[spec.batch_axis] == 1:
        return torch.cat([tensor, tensor], dim=spec.batch_axis)
    return tensor


def _by_parameter(module: torch.nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """`shapes` as `torch.export` wants them: those that go to `*args` as one tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], shapes[named:])


def _dynamic_dims(signature: Signature) -> dict[str, Any]:
    names = {dim: None for spec in signature.inputs for dim in spec.dims if isinstance(dim, str)}
    return {
        name: Dim(name)
        if name == BATCH
        else Dim(name, min=signature.limits_of(name).min, max=signature.limits_of(name).max)
        for name in names
    }
