"""`maas predict`: one call to a running server, JSON in and JSON out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from maas.client import Client, Prediction
from maas.client.transport import DEFAULT_URL
from maas.client.wire import decode, encode
from maas.errors import MaasError


def predict(
    model: Annotated[
        str, typer.Argument(metavar="NAME[/VERSION]", help="By default the server chooses the version.")
    ],
    source: Annotated[
        str,
        typer.Option(
            "--json",
            metavar="JSON|@FILE|-",
            help="Inputs by name, such as '{\"x\": [0.5]}', from a file or from standard input.",
        ),
    ],
    url: Annotated[str, typer.Option(help="Where the server answers.")] = DEFAULT_URL,
    version: Annotated[str | None, typer.Option(help="The same as NAME/VERSION.")] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for the call, with retries.")] = 30.0,
    request_id: Annotated[str | None, typer.Option(help="Id of the call in the server's log.")] = None,
    timing: Annotated[
        bool, typer.Option("--timing", help="Say on standard error who answered, and where the time went.")
    ] = False,
) -> None:
    """Call a model and print its answer as JSON.

    A single sample has the declared shape without the batch dimension; one rank more is a batch of samples.
    """
    name, slash, named = model.partition("/")
    if slash and version is not None:
        raise typer.BadParameter(f"{model!r} says a version, and --version another")
    inputs = _inputs(source)
    try:
        with Client(url, timeout=timeout) as client:
            prediction = client.predict(
                name, inputs, version=named if slash else version, request_id=request_id
            )
    except MaasError as error:
        typer.echo(_sentence(error), err=True)
        raise typer.Exit(1) from None
    if timing:
        typer.echo(_facts(prediction), err=True)
    typer.echo(_rendered(prediction, pretty=sys.stdout.isatty()))


def _inputs(source: str) -> dict[str, object]:
    try:
        inputs = decode(_read(source))
    except OSError as error:
        raise typer.BadParameter(f"{source[1:]} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"--json is not JSON: {error}") from error
    if not isinstance(inputs, dict):
        raise typer.BadParameter('--json must be an object of inputs by name, such as {"x": [0.5]}')
    return inputs


def _read(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    return Path(source[1:]).read_bytes() if source.startswith("@") else source.encode()


def _sentence(error: MaasError) -> str:
    known_as = f" (request {error.request_id})" if error.request_id else ""
    return f"Error: {error.message}{known_as}"


def _facts(prediction: Prediction) -> str:
    stages = ", ".join(f"{stage} {seconds * 1000:.3f} ms" for stage, seconds in prediction.timings.items())
    return f"{prediction.model_version}, request {prediction.request_id}: {stages}"


def _rendered(prediction: Prediction, *, pretty: bool) -> str:
    """The outputs as JSON: for programs on one line, for people one output per line."""
    if not pretty:
        return encode(prediction.outputs).decode()
    members = (
        f"  {encode(name).decode()}: {encode(values).decode()}" for name, values in prediction.outputs.items()
    )
    return "{\n" + ",\n".join(members) + "\n}"
