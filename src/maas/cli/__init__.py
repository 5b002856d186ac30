"""The command line. Each command imports what it needs when it runs: a caller has only the client installed."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from maas import __version__
from maas.cli import (
    bench,
    config,
    importing,
    models,
    openapi,
    optimize,
    predict,
    publish,
    serve,
    train,
    verify,
)
from maas.errors import MaasError

# What stands in the way of a command and is for its user to change: rights, space, a file in place of a folder.
_FORESEEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST}

# Packages that only extras bring, and the extra that a command needs as a whole; the others need `server`.
_OPTIONAL = {
    *("fastapi", "msgspec", "prometheus_client", "pydantic", "safetensors", "structlog", "uvicorn", "yaml"),
    *(
        "torch",
        "rich",
        "sklearn",
        "statsmodels",
        "matplotlib",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "openvino",
    ),
    *("gguf", "tokenizers"),
}
_EXTRAS = {
    "bench": "bench",
    "import": "gguf",
    "optimize": "optimize",
    "publish": "torch",
    "train": "training",
    "verify": "torch",
}

app = typer.Typer(
    name="maas",
    help="Model as a Service: train, publish, serve and call models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Model as a Service: train, publish, serve and call models."""


app.command()(train.train)
app.command()(publish.publish)
app.command()(verify.verify)
app.command()(optimize.optimize)
app.command()(serve.serve)
app.command()(openapi.openapi)
app.command()(predict.predict)
app.command()(bench.bench)
app.add_typer(models.models, name="models")
app.add_typer(config.config, name="config")
app.add_typer(importing.importing, name="import")


def main() -> None:
    """Run a command. What we foresee ends as one sentence and exit code 1, never as a traceback."""
    try:
        app()
    except MaasError as error:
        typer.echo(f"Error: {error.message}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _FORESEEN:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        typer.echo(f"Error: {where}{error.strerror}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if (extra := _extra_for(package, sys.argv[1:])) is None:
            raise
        typer.echo(f"Error: this command needs {package!r}: pip install 'maas[{extra}]'", err=True)
        sys.exit(1)


def _extra_for(package: str, arguments: list[str]) -> str | None:
    """The extra that a command needs where `package` is missing, or None for one that none of ours brings."""
    if package not in _OPTIONAL:
        return None
    return _EXTRAS.get(next((word for word in arguments if not word.startswith("-")), ""), "server")
