"""The command line. Each command imports what it needs when it runs: a caller has only the client installed."""

from __future__ import annotations

import sys

import typer

from maas.cli import config, predict, publish, serve, train, verify
from maas.errors import MaasError

app = typer.Typer(
    name="maas",
    help="Model as a Service: train, publish, serve and call models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(train.train)
app.command()(publish.publish)
app.command()(verify.verify)
app.command()(serve.serve)
app.command()(predict.predict)
app.add_typer(config.config, name="config")


def main() -> None:
    """Run a command. What we foresee ends as one sentence and exit code 1, never as a traceback."""
    try:
        app()
    except MaasError as error:
        typer.echo(f"Error: {error.message}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (extra := _extra_for(error.name or "")) is None:
            raise
        typer.echo(f"Error: this command needs {error.name!r}: pip install 'maas[{extra}]'", err=True)
        sys.exit(1)


def _extra_for(module: str) -> str | None:
    """The extra that brings a package, or None for a module that none of ours does."""
    top = module.partition(".")[0]
    if top in ("torch",):
        return "torch"
    if top in ("sklearn", "statsmodels", "rich"):
        return "training"
    return (
        "server"
        if top in ("fastapi", "msgspec", "pydantic", "safetensors", "structlog", "uvicorn", "yaml")
        else None
    )
