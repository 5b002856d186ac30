"""`maas publish`: a folder that describes a model becomes a version."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from maas.errors import BadArtifact


def publish(
    directory: Annotated[
        Path, typer.Argument(help="Folder with model.yaml, the model's files and its golden.safetensors.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the model; the folder's unless told.")] = None,
    repository: Annotated[Path, typer.Option(help="Folder of the model versions.")] = Path("models"),
    version: Annotated[str | None, typer.Option(help="Version; the next whole number unless told.")] = None,
    example: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with inputs as for predict; the model's answer to them becomes the golden sample."
        ),
    ] = None,
    allow_code: Annotated[
        list[str] | None, typer.Option(help="Module whose code the model may run; may be repeated.")
    ] = None,
) -> None:
    """Seal DIRECTORY into a version: hashed, proven against its golden samples, and renamed into place."""
    from maas.models.manifest import read_description
    from maas.models.publishing import copy_files, record_golden
    from maas.models.publishing import publish as seal
    from maas.models.repository import Repository
    from maas.runtimes.contract import MANIFEST
    from maas.runtimes.golden import GOLDEN

    if allow_code:
        sys.path.append(os.getcwd())  # where a model process looks for it too
    repository = repository.expanduser()
    description = read_description(_read(directory / MANIFEST))
    if example is None and not (directory / GOLDEN).exists():
        raise BadArtifact(f"{GOLDEN} is missing: give --example FILE, or write it")
    copy = copy_files(directory)
    record = record_golden(description, _inputs(example), allow_code or ()) if example is not None else None

    def fill(draft: Path) -> None:
        copy(draft)
        if record is not None:
            record(draft)

    stored = seal(
        Repository(repository),
        name or directory.resolve().name,
        description,
        fill,
        version=version,
        allow_code=allow_code or (),
    )
    typer.echo(stored.label)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is no text in UTF-8") from error


def _inputs(file: Path) -> dict[str, object]:
    try:
        inputs = json.loads(_read(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}") from error
    if not isinstance(inputs, dict):
        raise typer.BadParameter(f"{file} must hold an object of inputs by name")
    return inputs
