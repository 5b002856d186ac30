"""`maas train`: recipes on real data, each ending in a published version."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maas.training.recipe import Recipe, TrainingOptions, find_recipe, recipes

if TYPE_CHECKING:
    from rich.progress import TaskID


def train(
    recipe: Annotated[str | None, typer.Argument(help="Name of the recipe; see --list.")] = None,
    repository: Annotated[Path, typer.Option(help="Folder of the model versions.")] = Path("models"),
    name: Annotated[str | None, typer.Option(help="Name of the model; the recipe's unless told.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training data; chosen on a validation part unless told."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of initialisation and order; the split is fixed.")
    ] = 0,
    list_recipes: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    train_all: Annotated[bool, typer.Option("--all", help="Train every recipe.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="With --all: only recipes whose model has no version yet.")
    ] = False,
) -> None:
    """Train a model on real data and publish it."""
    if list_recipes:
        for known in recipes().values():
            typer.echo(f"{known.name:20}{known.family:26}{known.summary}")
        return
    if (recipe is None) is not train_all or (missing and not train_all) or (name and train_all):
        raise typer.BadParameter(
            "give one RECIPE, or --all (with --missing, if you like); --name goes with one"
        )
    repository = repository.expanduser()
    chosen = list(recipes().values()) if recipe is None else [find_recipe(recipe)]
    if missing:
        from maas.models.repository import Repository

        there = Repository(repository)
        chosen = [each for each in chosen if not there.versions(each.name)]
    if chosen:
        _train(chosen, repository, name, TrainingOptions(epochs, seed))


def _train(chosen: list[Recipe], repository: Path, name: str | None, options: TrainingOptions) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    from maas.models.repository import Repository
    from maas.training.publishing import publish_trained

    repository.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=repository):  # before the training, not after it
        pass
    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TextColumn("{task.fields[phase]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as bars:
        for recipe in chosen:
            bar = bars.add_task(recipe.name, total=None, phase="data")

            def advance(step: int, of: int, message: str, bar: TaskID = bar) -> None:
                bars.update(bar, completed=step, total=of, phase=message)

            trained = recipe.train(options, advance)
            bars.update(bar, phase="publishing")
            stored = publish_trained(trained, name or recipe.name, Repository(repository))
            bars.update(bar, completed=1, total=1, phase=stored.label)
            said = f"{stored.label}  {_headline(trained.card)}"
            if console.is_terminal:
                bars.console.print(said, highlight=False)
            else:
                typer.echo(said, err=True)
            if not (console.is_terminal and sys.stdout.isatty()):  # there the line above has said it
                typer.echo(stored.label)


def _headline(card: Mapping[str, Any]) -> str:
    """The card's held-out metrics on one line."""
    metrics = card.get("metrics", {})
    return ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if isinstance(value, float))
