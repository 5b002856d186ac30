"""`maas bench`: load a server, and say how it bore it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from maas.bench.dialects import Body, Protocol, encode_body
from maas.bench.inputs import Form, generate, in_rows, read_file
from maas.bench.load import Load, Request
from maas.bench.picture import check_picture, draw
from maas.bench.report import Point, render_table
from maas.bench.server import Model, Server, describe, example, try_out
from maas.bench.sweep import sweep
from maas.client.transport import DEFAULT_URL
from maas.client.wire import encode
from maas.errors import InvalidRequest
from maas.types import Bounds, Tensors

_DISTINCT = 256  # requests that are made up
_MOST_BYTES = 256 << 20  # of all requests, which are held in memory
_CLOSED = "1,8,64"

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where inputs come from, and what they are to be like."""

    file: Path | None
    repository: Path | None
    is_generated: bool
    rows: int
    lengths: Mapping[str, Bounds]
    seed: int


def bench(
    model: Annotated[
        str | None,
        typer.Argument(metavar="NAME[/VERSION]", help="By default the server chooses the version."),
    ] = None,
    url: Annotated[str, typer.Option(help="Where the server answers.")] = DEFAULT_URL,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="native: JSON of maas; oip: JSON of the Open Inference Protocol; binary: its tensors raw."
        ),
    ] = Protocol.NATIVE,
    concurrency: Annotated[
        str | None,
        typer.Option(
            help=f"Closed loop: connections that ask on, one point for each number. By default {_CLOSED}."
        ),
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Open loop: requests a second, Poisson, one point for each number.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each point is measured.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0.0, help="Seconds of load before that.")] = 1.0,
    requests: Annotated[
        Path | None, typer.Option(help="Ask with inputs from a file: .jsonl, .npz or .safetensors.")
    ] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Ask with the golden samples of the version in this folder of models.")
    ] = None,
    generated: Annotated[
        bool, typer.Option("--generated", help="Make inputs up even where the server has an example.")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a request.")] = 1,
    length: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIM=MIN:MAX", help="Lengths of a variable dimension that is made up; may be repeated."
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the load.")] = 1,
    connections: Annotated[
        int, typer.Option(min=1, max=60000, help="Open loop: connections at most.")
    ] = 1024,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds that an answer is awaited.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of inputs and arrivals.")] = 0,
    path: Annotated[
        str | None, typer.Option(help="Load this path of any HTTP server instead of a model.")
    ] = None,
    body_file: Annotated[
        Path | None, typer.Option(help="With --path: what is posted; without it, GET.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="Header of each request; may be repeated."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="For https: trust the authorities of this PEM file instead of the system's."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", "-k", help="For https: take any certificate.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the measurement to this file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency against throughput to this file, .png or .svg.")
    ] = None,
) -> None:
    """Load a server, closed or open loop, and print throughput, latencies and what the server says of its batches.

    Latencies of an open loop count from the moment a request was due. Ctrl-C ends it with what was measured until then.
    """
    if (model is None) == (path is None):
        raise typer.BadParameter("say which model to load, or with --path any other path of a server")
    if concurrency is not None and rate is not None:
        raise typer.BadParameter("--concurrency is a closed loop and --rate an open one: choose one")
    counts = [] if rate is not None else _numbers("--concurrency", concurrency or _CLOSED, int)
    rates = [] if rate is None else _numbers("--rate", rate, float)
    if plot is not None:
        check_picture(plot)
    server = Server.at(url, _headers(header or []), timeout, ca=ca, insecure=insecure)
    named = Model.parse(model) if model is not None else None
    if named is not None:
        source = _Source(requests, repository, generated, rows, _lengths(length or []), seed)
        asked = _model_requests(server, named, protocol, source)
    else:
        asked = _raw_requests(server, path or "/", body_file)
    model_load = Load(server.host, server.port, asked, 1, None, seconds, warm_up, timeout, seed, server.tls)
    loads = [replace(model_load, connections=count) for count in counts]
    loads += [replace(model_load, connections=connections, rate=each) for each in rates]
    points = _measured(sweep(server, named, loads, processes), len(loads))
    typer.echo(render_table(points))
    title = f"{model}, {protocol.value}, at {url}" if model is not None else f"{path} at {url}"
    if json_file is not None:
        document = {"title": title, "points": [point.document() for point in points]}
        json_file.write_bytes(encode(document) + b"\n")
    if plot is not None:
        draw(points, title, plot)


def _measured(points: Iterator[Point], count: int) -> list[Point]:
    """All of them, each announced when it is there: a sweep takes minutes."""
    measured: list[Point] = []
    try:
        for point in points:
            measured.append(point)
            typer.echo(
                f"[{len(measured)}/{count}] {point.name}: {point.throughput:,.0f} answers a second", err=True
            )
    except KeyboardInterrupt:  # between two points; within one, it ends the point
        typer.echo("interrupted", err=True)
    return measured


def _model_requests(server: Server, model: Model, protocol: Protocol, source: _Source) -> tuple[Request, ...]:
    """Whole requests, the first of which the server has answered well."""
    form = describe(server, model, protocol)
    form = replace(form, bounds={**form.bounds, **source.lengths})
    path = model.path(protocol)
    requests: list[Request] = []
    size = 0
    for tensors in _inputs(server, model, form, source):
        body = encode_body(protocol, form, tensors)
        if not requests:
            try_out(server, path, body, protocol)
        requests.append(server.request(path, body, source.rows))
        size += len(body.content)
        if size > _MOST_BYTES:
            break
    if not requests:
        raise InvalidRequest("there is nothing to ask: the source holds no inputs")
    return tuple(requests)


def _inputs(server: Server, model: Model, form: Form, source: _Source) -> Iterable[Tensors]:
    """From where the user says, else the server's own example, else made up."""
    if source.file is not None:
        return in_rows(form, read_file(source.file, form), source.rows)
    if source.repository is not None:
        return in_rows(form, _golden(source.repository, model), source.rows)
    given = example(server, model, form)
    if given is not None and not (source.is_generated or source.lengths):
        return in_rows(form, [given], source.rows)
    return generate(form, _DISTINCT, source.rows, source.seed, like=given)


def _golden(repository: Path, model: Model) -> list[Tensors]:
    from maas.models.repository import Repository
    from maas.runtimes.golden import load_golden

    stored = Repository(repository.expanduser()).read(model.name, model.version)
    samples = load_golden(
        stored.directory, stored.manifest.signature, allow_non_finite=stored.manifest.allow_non_finite
    )
    return [sample.inputs for sample in samples]


def _raw_requests(server: Server, path: str, file: Path | None) -> tuple[Request, ...]:
    """One request to a path that may be anything."""
    try:
        body = Body(file.read_bytes() if file is not None else b"", {})
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error
    method = "POST" if file is not None else "GET"
    try_out(server, path, body, None, method)
    return (server.request(path, body, method=method),)


def _numbers(option: str, text: str, kind: type[_Number]) -> list[_Number]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < 1e7 for number in numbers):
        raise typer.BadParameter(f"{option} is numbers above 0, such as 1,8,64; not {text!r}")
    return numbers


def _lengths(options: Sequence[str]) -> dict[str, Bounds]:
    bounds = {}
    for option in options:
        dim, _, span = option.partition("=")
        least, colon, most = span.partition(":")
        try:
            bounds[dim] = Bounds(int(least), int(most if colon else least))
        except ValueError as error:
            raise typer.BadParameter(f"--length is DIM=MIN:MAX, such as seq=8:128; not {option!r}") from error
    return bounds


def _headers(options: Sequence[str]) -> dict[str, str]:
    headers = {}
    for option in options:
        name, colon, value = option.partition(":")
        if not colon or not name.strip() or any(character in option for character in "\r\n"):
            raise typer.BadParameter(f"--header is 'NAME: VALUE'; not {option!r}")
        headers[name.strip()] = value.strip()
    return headers
