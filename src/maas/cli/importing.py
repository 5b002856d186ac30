"""`maas import`: model files of other programs become folders that `transformers` loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

importing = typer.Typer(help="Make a model folder of another program's file.", no_args_is_help=True)


@importing.callback()
def _group() -> None:
    """Make a model folder of another program's file."""


@importing.command()
def gguf(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="A GGUF file of a model of the llama architecture."),
    ],
    output: Annotated[Path, typer.Option(help="Folder to make; it must not exist.")],
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of the weights that are written.")
    ] = "float32",
) -> None:
    """Make a Hugging Face folder of a GGUF file: weights, configuration, tokenizer and chat template."""
    from maas.importing.folder import import_gguf

    model = import_gguf(file.expanduser(), output.expanduser(), dtype)
    typer.echo(f"imported {model.layers} layers and {model.vocabulary} tokens in {dtype} into {output}")
