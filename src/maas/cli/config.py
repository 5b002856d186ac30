"""`maas config`: the effective configuration, and whether a file makes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

config = typer.Typer(
    help="Print the effective configuration, or check a file.",
    invoke_without_command=True,
    no_args_is_help=False,
)


@config.callback()
def show(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option("--config", help="Configuration file (YAML).")] = None,
) -> None:
    """Print the effective tree as YAML: defaults, then the file, then MAAS_… variables."""
    if context.invoked_subcommand is None:
        import yaml

        from maas.config import load_configuration

        tree = load_configuration(file).model_dump(mode="json")
        typer.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


@config.command()
def check(file: Annotated[Path, typer.Argument(help="Configuration file (YAML).")]) -> None:
    """Validate FILE; exit with 1 and the path of the wrong key where it is no configuration."""
    from maas.config import load_configuration

    load_configuration(file, environment={})
    typer.echo(f"{file} is a valid configuration")


@config.command()
def reference() -> None:
    """Print every option with its default, its range and what to do with it, as Markdown."""
    from maas.cli.reference import render

    typer.echo(render(), nl=False)
