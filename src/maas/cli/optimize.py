"""`maas optimize`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from maas.models.repository import StoredVersion
    from maas.optimizing.judging import Result
    from maas.optimizing.optimizer import Outcome, Task, Wish


def optimize(
    model: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="The highest version unless told.")],
    repository: Annotated[Path, typer.Option(help="Folder of the model versions.")] = Path("models"),
    target: Annotated[
        Literal["throughput", "latency", "memory"],
        typer.Option(help="Rows a second over all cores, seconds for one row alone, or bytes."),
    ] = "throughput",
    allow: Annotated[
        str, typer.Option(help="Reduced precisions that may be tried: bf16, int8, or bf16,int8.")
    ] = "",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How far answers may be off, as a share of an output's largest number; 1e-3 unless told, and 2e-2 in "
            "reduced precision.",
        ),
    ] = None,
    metric_loss: Annotated[
        float,
        typer.Option(min=0, help="Points that the task's metric may lose, where the card names a recipe."),
    ] = 0.5,
    seconds: Annotated[float, typer.Option(min=0.01, help="Time for each point that is measured.")] = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, and publish nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    allow_code: Annotated[
        list[str] | None, typer.Option(help="Module whose code the model may run; may be repeated.")
    ] = None,
) -> None:
    """Try the model on other engines and settings, measure them here, and publish the best as a new version.

    The parent stays as it is. Answers are held against the parent's in float32.
    """
    from maas.models.repository import Repository
    from maas.optimizing.judging import Limits
    from maas.optimizing.optimizer import Wish

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up as Ctrl-C does
    if allow_code:
        sys.path.append(os.getcwd())  # where a model process looks for it too
    name, _, version = model.partition("/")
    there = Repository(repository.expanduser())
    parent = there.read(name, version or None)
    exact, reduced = (Limits().exact, Limits().reduced) if tolerance is None else (tolerance, tolerance)
    wish = Wish(
        target, _precisions(allow), Limits(exact, reduced, metric_loss), seconds, tuple(allow_code or ())
    )
    outcome = _watched(there, parent, wish, dry_run)
    typer.echo(json.dumps(_as_tree(outcome), indent=2) if as_json else _table(outcome))
    typer.echo(_sentence(parent.label, outcome, dry_run, target), err=as_json)


def _precisions(allow: str) -> tuple[str, ...]:
    names = {"bf16": "bfloat16", "bfloat16": "bfloat16", "int8": "int8"}
    words = [word.strip() for word in allow.split(",") if word.strip()]
    if unknown := [word for word in words if word not in names]:
        raise typer.BadParameter(f"{unknown[0]!r} is no reduced precision; known are bf16 and int8")
    return tuple(names[word] for word in words)


def _watched(repository: Any, parent: StoredVersion, wish: Wish, dry_run: bool) -> Outcome:
    """Optimise, with a bar on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from maas.optimizing.optimizer import optimize as run

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as bars:
        bar = bars.add_task(parent.label, total=None)

        def tell(done: int, of: int, what: str) -> None:
            bars.update(bar, completed=done, total=of, description=f"{parent.label}  {what}")

        return run(repository, parent, wish, task=_task_of(parent), tell=tell, dry_run=dry_run)


def _task_of(parent: StoredVersion) -> Task | None:
    """The task of the recipe that the model's card names; None, and a word about it, where its data is not to be had."""
    from importlib.util import find_spec

    if "recipe" not in parent.manifest.card or find_spec("torch") is None:
        return None
    from maas.training.evaluation import held_out_of

    try:
        return held_out_of(parent.manifest.card, parent.manifest.signature)
    except ModuleNotFoundError as error:
        typer.echo(f"the task's metric is not checked: {error.name!r} is not installed", err=True)
        return None


def _sentence(parent: str, outcome: Outcome, dry_run: bool, target: str) -> str:
    if outcome.winner is None:
        return f"nothing is better than {parent} by 5 % or more; nothing was published"
    what = f"{outcome.winner.label}, {outcome.winner.instances} × {outcome.winner.threads}"
    said = f"{what} is {outcome.gain:.2f} times as good as {parent} for {target}"
    return f"{said}; nothing was published" if dry_run else f"{said}; published as {outcome.published}"


_COLUMNS = ("FORM", "PLACES", "SAMPLES/S", "AT ROWS", "ONE ROW", "MEMORY", "ERROR", "METRIC LOSS", "")


def _table(outcome: Outcome) -> str:
    """A line for each result; places are instances × threads of each."""
    rows = [_COLUMNS, *map(_row, outcome.results)]
    marks = [" ", *("*" if result is outcome.winner else " " for result in outcome.results)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        f"{mark} " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for mark, row in zip(marks, rows, strict=True)
    )


def _row(result: Result) -> tuple[str, ...]:
    measured = result.measurement
    numbers = (
        ("–", "–", "–", "–")
        if measured is None
        else (
            f"{measured.samples_per_second:.4g}",
            str(measured.batch_size),
            f"{measured.latency * 1e3:.3g} ms",
            f"{measured.memory / (1 << 20):.0f} MB",
        )
    )
    return (
        result.label,
        f"{result.instances} × {result.threads}",
        *numbers,
        "–" if result.error is None else f"{result.error:.1e}",
        "–" if result.metric_loss is None else f"{result.metric_loss:.2f}",
        result.refusal or ("accepted, in turns" if result.is_final else "accepted"),
    )


def _as_tree(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    winner = asdict(outcome.winner) if outcome.winner is not None else None
    return {
        "results": [asdict(result) for result in outcome.results],
        "winner": winner,
        "gain": outcome.gain,
        "published": outcome.published or None,
    }
