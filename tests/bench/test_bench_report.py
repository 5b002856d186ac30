"""What is made of a measurement: the server's own counts, the table, the picture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from maas.bench.load import Load, Request, Tally
from maas.bench.meters import ServerStatistics, parse_metrics, statistics_between
from maas.bench.picture import check_picture, draw
from maas.bench.report import Point, render_table
from maas.errors import InvalidRequest

BEFORE = """# HELP maas_batch_rows Rows of a batch.
maas_batch_rows_bucket{le="1",model="m",version="1"} 10.0
maas_batch_rows_bucket{le="8",model="m",version="1"} 10.0
maas_batch_rows_bucket{le="+Inf",model="m",version="1"} 10.0
maas_batch_rows_count{model="m",version="1"} 10.0
maas_batch_rows_sum{model="m",version="1"} 10.0
maas_batch_rows_sum{model="other",version="1"} 5e9
"""
AFTER = """maas_batch_rows_bucket{le="1",model="m",version="1"} 12.0
maas_batch_rows_bucket{le="8",model="m",version="1"} 14.0
maas_batch_rows_bucket{le="+Inf",model="m",version="1"} 14.0
maas_batch_rows_count{model="m",version="1"} 14.0
maas_batch_rows_sum{model="m",version="1"} 28.0
maas_queue_seconds_sum{model="m",version="1"} 0.5
maas_queue_seconds_count{model="m",version="1"} 10.0
maas_batch_elements_total{kind="own",model="m",version="1"} 60.0
maas_batch_elements_total{kind="padding",model="m",version="1"} 20.0
maas_requests_total{model="other",outcome="ok",version="1"} 99.0
"""


def point(rate: float | None = None, **outcomes: int) -> Point:
    tally = Tally(seconds=2.0, outcomes=Counter(outcomes), completed=outcomes.get("200", 0), cpu_shares=[0.2])
    tally.rows = 4 * tally.completed
    for _ in range(tally.completed):
        tally.latencies.record(0.004)
    return Point(Load("127.0.0.1", 1, (Request(b""),), 8, rate), tally, ServerStatistics())


def test_statistics_are_what_was_counted_in_the_meantime() -> None:
    """Of this model alone, with what is not there left open."""
    statistics = statistics_between(parse_metrics(BEFORE, "m", "1"), parse_metrics(AFTER, "m", None))
    assert statistics == ServerStatistics(
        rows_per_batch=4.5, queue=0.05, padding=0.25, batches={"1": 2, "8": 2}
    )


def test_a_server_with_other_metrics_has_no_statistics() -> None:
    """Nor one whose text makes no sense."""
    for text in ("", "nv_inference_count{model='m'} 3", 'broken{model="m" 7'):
        assert statistics_between({}, parse_metrics(text, "m", None)) == ServerStatistics()


def test_errors_are_never_dropped_from_the_table() -> None:
    """They are in their column and, by kind, below it."""
    table = render_table([point(**{"200": 60, "503": 30, "timeout": 10})])
    header, row, note = table.splitlines()
    assert header.split()[:3] == ["load", "requests", "errors"]
    assert row.split()[:6] == ["8", "conn.", "100", "40", "30", "120"]
    assert note == "8 conn.: not answered well: 30 × 503, 10 × timeout"


def test_a_rate_that_is_not_reached_is_said() -> None:
    """What was due a second, and what was answered."""
    short = point(rate=50.0, **{"200": 60, "503": 40})
    assert "30 of 50 requests a second were answered in time" in render_table([short])


def test_late_sending_and_too_few_connections_are_the_clients_fault() -> None:
    """The table and the document say so."""
    slow = point(rate=50.0, **{"200": 100})
    slow.tally.lateness.record(0.02)
    slow.tally.starved = 7
    late, starved = slow.bottlenecks()
    assert "left over 20.0 ms after they were due" in late
    assert "7 requests were due while all 8 connections were busy" in starved
    assert slow.document()["client"]["bottlenecks"] == [late, starved]  # type: ignore[index]
    assert render_table([slow]).count("the client is a bottleneck") == 2
    assert point(rate=50.0, **{"200": 100}).bottlenecks() == []


def test_the_document_is_json_with_seconds() -> None:
    """Everything of the table, for programs."""
    document = json.loads(json.dumps(point(**{"200": 60}).document()))
    assert document["loop"] == "closed"
    assert document["requests_per_second"] == 30
    assert document["rows_per_second"] == 120
    assert document["latency"]["p99.9"] == pytest.approx(0.004, rel=1e-3)
    assert document["outcomes"] == {"200": 60}


def test_a_picture_has_the_format_of_its_name(tmp_path: Path) -> None:
    """PNG and SVG, with a line for each percentile."""
    pytest.importorskip("matplotlib")
    points = [point(**{"200": count}) for count in (10, 100)]
    draw(points, "a title", tmp_path / "a.png")
    draw(points, "a title", tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")


def test_another_format_is_refused_before_anything_is_measured() -> None:
    """A minute of load must not end in that."""
    with pytest.raises(InvalidRequest, match=r"drawn as \.png or \.svg only"):
        check_picture(Path("a.gif"))
