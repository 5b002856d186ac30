"""An exported program (`torch.export`, `.pt2`): graph and weights, none of the user's code.

`torch.export.load` (2.13) unpickles freely whatever the archive marks as pickled: weights and constants with
`use_pickle`, script and opaque objects, sample inputs; it loads compiled libraries from an archive that carries
them, and runs text of the graph as Python. So the archive is inspected before it is opened: only known members, none
of them pickled or native, each once and uncompressed, and a graph that keeps to its grammar (`graph`). While it is
loaded, every attempt of a pickle to look up a class is refused as well.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from maas.errors import BadArtifact
from maas.runtimes.contract import Artifact
from maas.runtimes.torch.graph import check_graph

PROGRAM = "model.pt2"

_MAX_JSON = 64 << 20  # bytes: the graph and the tables of an archive
_TABLES = re.compile(r"data/(weights|constants)/model_(weights|constants)_config\.json")
_KNOWN = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+)|" + _TABLES.pattern
)
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_GRAPH = "models/model.json"


def load_exported(artifact: Artifact, device: torch.device) -> Callable[..., Any]:
    """The program's module on `device`. Raises `BadArtifact` where the archive is refused or does not load."""
    program = load_program(artifact)
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    # The gateway has checked the inputs against the declaration; the guards are the archive's own text, as code. Calling the
    # module instead of its `forward` would check the constraints again, which takes twice as long as a small model.
    forward: Callable[..., Any] = program.module(check_guards=False).forward
    return forward


def load_program(artifact: Artifact) -> ExportedProgram:
    """The program as it is stored. Raises `BadArtifact` where the archive is refused or does not load."""
    path = artifact.directory / PROGRAM
    inspect_archive(path)
    try:
        with _unpickling_refused():
            return torch.export.load(path)
    except BadArtifact:
        raise
    except Exception as error:  # torch raises whatever its reader meets in a damaged archive
        raise BadArtifact(f"{PROGRAM} does not load: {type(error).__name__}", trace=str(error)) from error


def inspect_archive(path: Path) -> None:
    """Raise `BadArtifact` unless loading the archive at `path` runs nothing of its author's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = _check_members(archive.infolist())
        # torch has a reader of its own, which may find another directory in a crafted file: what it will read is
        # what must be checked. Where it fails, torch.export falls back to Python's reader, so both must agree.
        reader = torch._C.PyTorchFileReader(str(path))
        if sorted(reader.get_all_records()) != sorted(names):
            raise BadArtifact(f"{PROGRAM} has two directories that differ")
        _check_texts(reader, names)
    except BadArtifact:
        raise
    except FileNotFoundError as error:
        raise BadArtifact(f"{PROGRAM} is missing") from error
    except Exception as error:  # whatever a damaged archive makes its readers raise
        raise BadArtifact(
            f"{PROGRAM} is no archive of torch.export: {type(error).__name__}", trace=str(error)
        ) from error


def _check_members(members: list[zipfile.ZipInfo]) -> set[str]:
    """The members' names without the first folder, which is the archive's own name, whatever that is."""
    seen: set[str] = set()
    for member in members:
        root, _, name = member.filename.partition("/")
        if name in seen or root != members[0].filename.partition("/")[0]:
            raise BadArtifact(f"{PROGRAM} holds {member.filename!r} twice or under a second root")
        seen.add(name)
        if member.compress_type != zipfile.ZIP_STORED:
            raise BadArtifact(f"{PROGRAM} holds {member.filename!r} compressed; torch stores it plainly")
        if not _KNOWN.fullmatch(name) and name != _SAMPLE_INPUTS:
            raise BadArtifact(f"{PROGRAM} holds {member.filename!r}, which is unpickled or run when loaded")
        if member.file_size > _MAX_JSON and name.endswith(".json"):
            raise BadArtifact(
                f"{PROGRAM} holds {member.filename!r} of {member.file_size} bytes; at most {_MAX_JSON}"
            )
    if _GRAPH not in seen:
        raise BadArtifact(f"{PROGRAM} holds no program: {_GRAPH} is missing")
    return seen


def _check_texts(reader: torch._C.PyTorchFileReader, names: set[str]) -> None:
    """Check what is not weights: the graph, the tables, and that no sample inputs are there to be unpickled."""
    check_graph(reader.get_record(_GRAPH))
    if _SAMPLE_INPUTS in names and reader.get_record(_SAMPLE_INPUTS):
        raise BadArtifact(f"{PROGRAM} holds sample inputs, which are unpickled when loaded")
    for name in filter(_TABLES.fullmatch, names):
        entries = json.loads(reader.get_record(name))["config"].values()
        if any(entry["use_pickle"] is not False for entry in entries):
            raise BadArtifact(f"{PROGRAM} marks tensors in {name!r} as pickled; loading would run them")


_refusing: ContextVar[bool] = ContextVar("refusing", default=False)


@contextmanager
def _unpickling_refused() -> Iterator[None]:
    """The second lock behind `inspect_archive`: while it holds, no pickle may look up a class or a function."""
    _install_hook()
    token = _refusing.set(True)
    try:
        yield
    finally:
        _refusing.reset(token)


@cache
def _install_hook() -> None:
    """An audit hook cannot be removed again, so there is one, and a context switches it."""
    sys.addaudithook(_refuse_classes)


def _refuse_classes(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _refusing.get():
        raise BadArtifact(f"{PROGRAM} tried to unpickle {arguments[0]}.{arguments[1]}")
