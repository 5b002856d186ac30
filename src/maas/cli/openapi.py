"""`maas openapi`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def openapi(
    model: Annotated[
        str | None, typer.Option(metavar="NAME[/VERSION]", help="Describe this one alone; all unless told.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).")] = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of the model versions.")] = None,
) -> None:
    """Print the OpenAPI document of a repository's models as JSON, from which SDKs are generated. No server is needed.

    It is what a server with the same configuration has at /openapi.json. A version whose files are not as published is
    left out, and named on standard error.
    """
    import asyncio
    import json

    from maas.config import load_configuration
    from maas.server.document import describe_repository

    overrides: dict[str, Any] = {"repository": str(repository.expanduser())} if repository is not None else {}
    name, _, version = (model or "").partition("/")
    found = asyncio.run(
        describe_repository(load_configuration(config, overrides=overrides), name or None, version or None)
    )
    for label, reason in found.left_out.items():
        typer.echo(f"left out: {label}: {reason}", err=True)
    typer.echo(json.dumps(found.document, indent=2, ensure_ascii=False))
