"""`maas models`: which versions a running server has, and loading and unloading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from maas.client import Client
from maas.client.transport import DEFAULT_URL
from maas.client.wire import encode
from maas.errors import ModelNotReady

Version = Mapping[str, object]

_COLUMNS = ("name", "version", "state", "default", "reason")

Name = Annotated[str, typer.Argument(metavar="NAME[/VERSION]")]
Url = Annotated[str, typer.Option(help="Where the server answers.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds for the call.")]

models = typer.Typer(help="List, load and unload the models of a running server.", no_args_is_help=True)


@models.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, for programs.")] = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 30.0,
) -> None:
    """Print every version that the server knows, with its state, and why it is not ready."""
    with Client(url, timeout=timeout) as client:
        found = client.models()
    typer.echo(encode(found) if as_json else _table(found))


@models.command()
def load(model: Name, url: Url = DEFAULT_URL, timeout: Timeout = 300.0) -> None:
    """Serve a version, by default the highest that is stored; return when it is ready.

    Exits with 1 and the reason where it does not load. What is served already is left as it is.
    """
    name, version = _parts(model)
    with Client(url, timeout=timeout) as client:
        told = client.load(name, version)
    if told.get("state") != "ready":
        raise ModelNotReady(_sentence(told))
    typer.echo(_sentence(told))


@models.command()
def unload(model: Name, url: Url = DEFAULT_URL, timeout: Timeout = 30.0) -> None:
    """Drain a version, or all of a model, and serve it no more until it is loaded."""
    name, version = _parts(model)
    with Client(url, timeout=timeout) as client:
        for told in client.unload(name, version):
            typer.echo(_sentence(told))


@models.command()
def refresh(url: Url = DEFAULT_URL, timeout: Timeout = 30.0) -> None:
    """Have the server look at its repository again: what is new is loaded, what is gone is drained."""
    with Client(url, timeout=timeout) as client:
        for told in client.refresh():
            typer.echo(_sentence(told))


def _parts(model: str) -> tuple[str, str | None]:
    name, slash, version = model.partition("/")
    return name, version if slash else None


def _sentence(told: Version) -> str:
    state, reason = told.get("state"), told.get("reason")
    why = f": {reason}" if reason and reason != f"it is {state}" else ""
    return f"{told.get('name')}/{told.get('version')} is {state}{why}"


def _table(found: Sequence[Version]) -> str:
    """A line for each version below the names of the columns, which are as wide as what stands in them."""
    rows = [[_cell(version.get(column)) for column in _COLUMNS] for version in found]
    rows.insert(0, [column.upper() for column in _COLUMNS])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return " ".join(str(value if value is not None else "").split())
