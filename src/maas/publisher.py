"""`maas.publish`: a model in memory becomes a version in a repository."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maas.errors import InvalidRequest
from maas.models.manifest import Batching, Description, RuntimeOptions
from maas.models.publishing import copy_files
from maas.models.publishing import publish as seal
from maas.models.repository import Repository
from maas.runtimes.python import write_class
from maas.tensors.check import check_inputs
from maas.types import BATCH, DEFAULT_TOLERANCES, DTYPES, Array, Bounds, Signature, Tensors, Tolerance

if TYPE_CHECKING:
    import torch


def publish(
    model: torch.nn.Module | type,
    example_inputs: Mapping[str, Any] | Sequence[Any],
    *,
    name: str,
    repository: str | Path = "models",
    version: str | None = None,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    dimensions: Mapping[str, Bounds] | None = None,
    form: Literal["exported", "module"] = "exported",
    arguments: Mapping[str, Any] | None = None,
    files: str | Path | None = None,
    max_batch_size: int = 32,
    max_queue_delay: float = 0.0,
    tolerances: Mapping[str, Tolerance] | None = None,
    allow_non_finite: bool = False,
    description: str = "",
    license: str | None = None,  # noqa: A002 - the manifest's own word
    card: Mapping[str, Any] | None = None,
) -> str:
    """Publish `model` and return `NAME/VERSION`.

    `model` is a PyTorch module, exported with `torch.export` so that the server needs none of its code, or with
    `form="module"` named by its import path and built there as `type(model)(**arguments)`; or a class with
    `__init__(self, directory, device, **arguments)` and `run(self, inputs)`, whose `files` are copied along. In the
    last two cases the server must have the code, and its configuration must allow it.

    `example_inputs` are arrays or tensors by input name, or in the order of `forward`'s parameters; with the model's
    own answers they become the golden sample that every load is held against. Unless declared, as in
    `inputs={"ids": "int64[batch, seq]"}`, the first dimension of a tensor is `batch` and the others are fixed.
    `dimensions` bounds the variable ones.

    Raises `InvalidRequest` for bad names and declarations and for a version that exists; `BadArtifact`, `Forbidden`,
    `ModelFailed` or `WorkerDied` where the version could not be loaded and proven. The repository is then unchanged.
    """
    sample = _name(model, example_inputs)
    options = dict(arguments or {})
    folder_of_files = Path(files) if files is not None else None
    declared = inputs or _declare(sample)
    # A module gets its inputs by position: the declaration keeps the order of `forward`.
    declared_inputs = {key: declared[key] for key in (*sample, *declared) if key in declared}
    declared_outputs = dict(outputs or _declare(_answer(model, sample, options, folder_of_files)))
    signature = Signature.parse(declared_inputs, declared_outputs, dict(dimensions or {}))
    check_inputs(signature, sample)
    with TemporaryDirectory() as name_of_draft:
        draft = Path(name_of_draft)
        if folder_of_files is not None:
            copy_files(folder_of_files)(draft)
        runtime = RuntimeOptions(**_write(draft, model, form, signature, sample, options))
        described = Description(
            runtime=runtime,
            inputs=declared_inputs,
            outputs=declared_outputs,
            dimensions=dict(dimensions or {}),
            batching=Batching(max_batch_size=max_batch_size, max_queue_delay=max_queue_delay),
            tolerances={**DEFAULT_TOLERANCES, **(tolerances or {})},
            allow_non_finite=allow_non_finite,
            description=description,
            license=license,
            card=dict(card or {}),
        )
        needs_code = isinstance(model, type) or form == "module"
        code = (model if isinstance(model, type) else type(model)).__module__
        stored = seal(
            Repository(Path(repository)),
            name,
            described,
            copy_files(draft),
            version=version,
            allow_code=(code,) if needs_code else (),
        )
    return stored.label


def _write(
    draft: Path,
    model: torch.nn.Module | type,
    form: str,
    signature: Signature,
    sample: Tensors,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    """Write the model's files and its golden sample, and return the manifest's runtime options."""
    if isinstance(model, type):
        return write_class(draft, model, signature, [sample], arguments)
    from maas.runtimes.torch.export import write_exported, write_module

    if form == "module":
        return write_module(draft, model, signature, [sample], arguments)
    if form != "exported":
        raise InvalidRequest(f"form {form!r} is unknown; a module is published as 'exported' or as 'module'")
    if arguments:
        raise InvalidRequest("an exported program takes no arguments; they are for form='module' and classes")
    return write_exported(draft, model, signature, [sample])


def _answer(
    model: torch.nn.Module | type, sample: Tensors, arguments: dict[str, Any], files: Path | None
) -> Tensors:
    """The model's own answer to `sample`, with names where it gives none: `output`, or `output_0`, `output_1` …"""
    if isinstance(model, type):
        found: Tensors = model(files or Path(), "cpu", **arguments).run(sample)
        return found
    from maas.runtimes.torch.export import answer

    return answer(model, sample)


def _name(
    model: torch.nn.Module | type, example_inputs: Mapping[str, Any] | Sequence[Any]
) -> dict[str, Array]:
    """Example inputs as arrays by name; those given in order have the names of `forward`'s parameters.

    A mapping whose names are all parameters of `forward` is put into their order, any other keeps its own.
    """
    if isinstance(example_inputs, Mapping):
        names = list(example_inputs)
        parameters = [] if isinstance(model, type) else list(inspect.signature(model.forward).parameters)
        if set(names) <= set(parameters):
            names.sort(key=parameters.index)
        return {key: np.asarray(example_inputs[key]) for key in names}
    if isinstance(model, type):
        raise InvalidRequest(
            "a class has no `forward` to name its inputs by; give example_inputs as a mapping"
        )
    parameters = list(inspect.signature(model.forward).parameters)
    if isinstance(example_inputs, (str, bytes)) or len(example_inputs) > len(parameters):
        raise InvalidRequest(f"forward takes {len(parameters)} inputs: {', '.join(parameters)}")
    return {key: np.asarray(value) for key, value in zip(parameters, example_inputs, strict=False)}


def _declare(arrays: Tensors) -> dict[str, str]:
    """The declarations that arrays suggest: `batch` first, then as they are."""
    declarations = {}
    for key, array in arrays.items():
        dtype = "bytes" if array.dtype.kind == "O" else array.dtype.name
        if dtype not in DTYPES:
            raise InvalidRequest(f"tensor {key!r} is {array.dtype}; known are {', '.join(DTYPES)}")
        dims = [BATCH, *map(str, array.shape[1:])] if array.ndim else []
        declarations[key] = f"{dtype}[{', '.join(dims)}]"
    return declarations
