"""`maas publish`: a folder that describes a model becomes a version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


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
    from maas.models.manifest import MANIFEST, read_description
    from maas.models.publishing import copy_files, record_golden
    from maas.models.publishing import publish as seal
    from maas.models.repository import Repository

    description = read_description(_read(directory / MANIFEST))
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
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from error


def _inputs(file: Path) -> dict[str, object]:
    try:
        inputs = json.loads(_read(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}") from error
    if not isinstance(inputs, dict):
        raise typer.BadParameter(f"{file} must hold an object of inputs by name")
    return inputs
