"""`maas verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maas.errors import ModelNotFound


def verify(
    model: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="The highest version unless told.")],
    repository: Annotated[Path, typer.Option(help="Folder of the model versions.")] = Path("models"),
    allow_code: Annotated[
        list[str] | None, typer.Option(help="Module whose code the model may run; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to load it: cpu, cuda, cuda:1 …")] = "cpu",
) -> None:
    """Load a version in a model process and hold it against its hashes and golden samples."""
    from maas.models.repository import Repository
    from maas.models.verification import verify as prove

    name, _, version = model.partition("/")
    there = Repository(repository.expanduser())
    try:
        stored = there.read(name, version or None)
    except ModelNotFound as error:
        known = ", ".join(each for each in there.models() if there.versions(each))
        raise ModelNotFound(f"{error.message}; models in {repository}: {known or 'none'}") from error
    seconds = prove(stored, allow_code=allow_code or (), device=device)
    tolerances = ", ".join(
        f"{dtype}: {tolerance.relative:g} relative, {tolerance.absolute:g} absolute"
        for dtype, tolerance in stored.manifest.tolerances.items()
        if dtype in {spec.dtype for spec in stored.manifest.signature.outputs}
    )
    typer.echo(
        f"{stored.label} is as published: {len(stored.manifest.files)} files, loaded in {seconds:.2f} s"
    )
    typer.echo(f"digest {stored.digest}")
    typer.echo(f"golden samples agree within {tolerances or 'equality'}")
