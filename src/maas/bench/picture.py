"""Latency against throughput as a picture; the format follows from the file's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maas.bench.report import PERCENTILES, Point
from maas.errors import InvalidRequest

FORMATS = (".png", ".svg")


def check_picture(path: Path) -> None:
    """Raises `InvalidRequest` for a format that is not drawn, `ModuleNotFoundError` without what draws: before a measurement."""
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"{path.name} is drawn as {' or '.join(FORMATS)} only")
    import matplotlib  # noqa: F401


def draw(points: Sequence[Point], title: str, path: Path) -> None:
    """One line for each percentile, one mark for each point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    throughput = [point.throughput for point in points]
    for percent in PERCENTILES:
        latencies = [point.tally.latencies.percentile(percent) * 1e3 for point in points]
        axes.plot(throughput, latencies, marker="o", label=f"p{percent:g}")
    for point, x in zip(points, throughput, strict=True):
        bottom = point.tally.latencies.percentile(PERCENTILES[0]) * 1e3
        axes.annotate(
            point.name, (x, bottom), xytext=(0, -12), textcoords="offset points", ha="center", size=8
        )
    axes.set(title=title, xlabel="answers per second", ylabel="latency (ms)")
    if any(point.tally.latencies.count for point in points):
        axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path)
