"""`maas.publish`: a model in memory becomes a version in a repository."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import ValidationError

from maas import __version__
from maas.elements import Scalar
from maas.errors import InvalidRequest, ModelFailed
from maas.models.manifest import Batching, Description, RuntimeOptions
from maas.models.publishing import copy_files
from maas.models.publishing import publish as seal
from maas.models.repository import Repository
from maas.runtimes.examples import check_examples, declare, make_up, name_by_order, name_examples
from maas.runtimes.onnx_file import OnnxFile
from maas.runtimes.python import write_class
from maas.tensors.check import check_inputs
from maas.types import DEFAULT_TOLERANCES, Bounds, Signature, Tensors, Tolerance

if TYPE_CHECKING:
    import torch


def publish(
    model: torch.nn.Module | type | str | Path,
    example_inputs: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    name: str,
    repository: str | Path = "models",
    version: str | None = None,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    dimensions: Mapping[str, Bounds] | None = None,
    defaults: Mapping[str, Scalar] | None = None,
    form: Literal["exported", "module"] = "exported",
    arguments: Mapping[str, Any] | None = None,
    files: str | Path | None = None,
    max_batch_size: int = 32,
    max_batch_cost: int | None = None,
    max_queue_delay: float = 0.0,
    tolerances: Mapping[str, Tolerance] | None = None,
    allow_non_finite: bool = False,
    idempotent: bool = True,
    description: str = "",
    license: str | None = None,  # noqa: A002 - the manifest's own word
    card: Mapping[str, Any] | None = None,
) -> str:
    """Publish `model` and return `NAME/VERSION`.

    `model` is a PyTorch module, exported with `torch.export` so that the server needs none of its code, or with
    `form="module"` named by its import path and built there as `type(model)(**arguments)`; or a class with
    `__init__(self, directory, device, **arguments)` and `run(self, inputs)`, whose `files` are copied along. In the
    last two cases the server must have the code, and its configuration must allow it. The model that you have is left
    as it was, in training mode if it is. Or it is the path of an ONNX file, which declares itself what is not declared
    here, and runs on ONNX Runtime.

    `example_inputs` are arrays or tensors by the names of `forward`'s parameters, or a list in their order; with the
    model's own answers they become the golden sample that every load is held against; for an ONNX file they are made up
    where they are not given. Text becomes `bytes`. Unless declared, as in `inputs={"ids": "int64[batch, seq]"}`, the first
    dimension of a tensor is `batch` and the others are fixed. `dimensions` bounds the variable ones, and says with what
    they may be padded. An input with one of the `defaults` may be left out of a request: each of its elements is that then.
    `max_batch_size` is the most rows of a batch, and so of a request; `max_batch_cost` the most
    rows × lengths of variable dimensions. A request whose model process died is run again unless `idempotent` is false.

    Raises `InvalidRequest` for bad names, examples and declarations and for a version that exists; `BadArtifact`,
    `Forbidden`, `ModelFailed` or `WorkerDied` where the version could not be loaded and proven. The repository is then
    unchanged.
    """
    source = OnnxFile.open(Path(model).expanduser()) if isinstance(model, (str, Path)) else model
    _check_model(source)
    options = dict(arguments or {})
    _check_plain("card", card or {})
    _check_plain("arguments", options)
    folder_of_files = Path(files).expanduser() if files is not None else None
    with TemporaryDirectory() as name_of_draft:
        draft = Path(name_of_draft)
        try:
            bounds = dict(dimensions or {})
            if isinstance(source, OnnxFile):
                declared_inputs = _with_defaults(inputs or source.declared_inputs(), defaults)
                declared_outputs = dict(outputs or source.declared_outputs())
                signature = Signature.parse(declared_inputs, declared_outputs, bounds)
                sample = (
                    make_up(signature)
                    if example_inputs is None
                    else name_by_order(source.names, example_inputs)
                )
                check_examples(source, sample, allow_non_finite)
            else:
                sample = name_examples(source, example_inputs)
                check_examples(source, sample, allow_non_finite)
                declared = inputs or declare(sample)
                # A module gets its inputs by position: the declaration keeps the order of `forward`.
                in_order = {key: declared[key] for key in (*sample, *declared) if key in declared}
                declared_inputs = _with_defaults(in_order, defaults)
                declared_outputs = dict(outputs or declare(_answer(source, sample, options, folder_of_files)))
                signature = Signature.parse(declared_inputs, declared_outputs, bounds)
            check_inputs(signature, sample)
            if folder_of_files is not None:
                copy_files(folder_of_files)(draft)
            described = Description(
                runtime=RuntimeOptions(**_write(draft, source, form, signature, sample, options)),
                inputs=declared_inputs,
                outputs=declared_outputs,
                dimensions=bounds,
                batching=Batching(
                    max_batch_size=max_batch_size,
                    max_batch_cost=max_batch_cost,
                    max_queue_delay=max_queue_delay,
                ),
                tolerances={**DEFAULT_TOLERANCES, **(tolerances or {})},
                allow_non_finite=allow_non_finite,
                idempotent=idempotent,
                description=description,
                license=license,
                card=dict(card or {}),
                made_with=_versions(source),
            )
        except ModelFailed as error:  # here it is the author's own call that does not fit the model
            raise InvalidRequest(error.message) from error
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        stored = seal(
            Repository(Path(repository).expanduser()),
            name,
            described,
            copy_files(draft),
            version=version,
            allow_code=_code_of(source, form),
        )
    return stored.label


def _with_defaults(inputs: Mapping[str, str], defaults: Mapping[str, Scalar] | None) -> dict[str, str]:
    declared = dict(inputs)
    for name, default in (defaults or {}).items():
        if name not in declared:
            raise InvalidRequest(f"defaults has {name!r}; the inputs are {', '.join(declared)}")
        declared[name] += f" = {json.dumps(default)}"
    return declared


def _write(
    draft: Path,
    model: torch.nn.Module | type | OnnxFile,
    form: str,
    signature: Signature,
    sample: Tensors,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    """Write the model's files and its golden sample, and return the manifest's runtime options."""
    if isinstance(model, type):
        return write_class(draft, model, signature, [sample], arguments)
    if isinstance(model, OnnxFile):
        if form != "exported" or arguments:
            raise InvalidRequest(
                "an ONNX file is published as it is; form and arguments are for modules and classes"
            )
        return model.write(draft, signature, [sample])
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


def _code_of(model: torch.nn.Module | type | OnnxFile, form: str) -> tuple[str, ...]:
    """The module whose code a version of it runs, where it runs any."""
    if isinstance(model, type):
        return (model.__module__,)
    return (type(model).__module__,) if form == "module" else ()


def _check_model(model: object) -> None:
    """Raise `InvalidRequest` unless `model` is an instance of a PyTorch module, a class that is none, or an ONNX file."""
    torch = sys.modules.get("torch")  # who has a module has loaded it, and who has none need not
    module = torch.nn.Module if torch is not None else ()
    if isinstance(model, type):
        if issubclass(model, module):
            raise InvalidRequest(
                f"{model.__name__} is a class of modules; give an instance, {model.__name__}(…)"
            )
        if not callable(getattr(model, "run", None)):
            raise InvalidRequest(f"class {model.__name__} has no method `run(self, inputs)`")
    elif not isinstance(model, (module, OnnxFile) if module else OnnxFile):
        raise InvalidRequest(
            f"the model is a {type(model).__name__}; expected a torch.nn.Module, a class with `run(self, inputs)`, or the "
            "path of an ONNX file"
        )


def _check_plain(path: str, value: object) -> None:
    """Raise `InvalidRequest` with the path of the first member that a manifest cannot hold, for no JSON could."""
    try:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise InvalidRequest(f"{path} has the key {key!r}; JSON has only text for keys")
                _check_plain(f"{path}.{key}", inner)
        elif isinstance(value, (list, tuple)):
            for index, inner in enumerate(value):
                _check_plain(f"{path}[{index}]", inner)
        elif not isinstance(value, float):
            orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS)
    except RecursionError:
        raise InvalidRequest(f"{path[:40]}… is nested too deeply, or in itself") from None
    except TypeError as error:
        raise InvalidRequest(f"{path} is a {type(value).__name__} that JSON cannot hold: {error}") from error


def _versions(model: object) -> dict[str, str]:
    """What made the version; where it loads elsewhere but answers differently, one asks for these first."""
    ours = {"python": platform.python_version(), "maas": __version__}
    if isinstance(model, type):
        return ours
    engine = "onnxruntime" if isinstance(model, OnnxFile) else "torch"
    return ours | {engine: str(sys.modules[engine].__version__)}
