"""`maas serve`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).")] = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of the model versions.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; 127.0.0.1 unless told.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port; 8000 unless told.")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="TCP port for gRPC; none unless told.")
    ] = None,
    take_over: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PID",
            help="Take the place of that server when the models are ready, without a failed request.",
        ),
    ] = None,
) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C, then drain. SIGHUP reads the configuration again.

    Without a configuration every version in ./models is served on 127.0.0.1:8000.
    """
    from maas.config import load_configuration
    from maas.server import run

    run(
        partial(load_configuration, config, overrides=_overrides(repository, host, port, grpc_port)),
        take_over,
    )


def _overrides(
    repository: Path | None, host: str | None, port: int | None, grpc_port: int | None
) -> dict[str, Any]:
    """The options that were given, as a tree like the file's."""
    given = {"host": host, "port": port, "grpc_port": grpc_port}
    server = {key: value for key, value in given.items() if value is not None}
    return {
        **({"repository": str(repository.expanduser())} if repository is not None else {}),
        **({"server": server} if server else {}),
    }
