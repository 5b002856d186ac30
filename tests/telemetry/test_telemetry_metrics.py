"""Metrics: what is exposed parses, adds up, and stays bounded whatever is asked for."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.api.harness import Model, in_loop, serving

from maas.batching.execution import BatchObservation
from maas.errors import ModelFailed
from maas.telemetry.histogram import Histogram
from maas.telemetry.metrics import OTHER, Gauges, Metrics

Sample = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: bytes) -> dict[Sample, float]:
    """Value by name and labels; fails where a series stands twice."""
    found: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def ours(series: dict[Sample, float]) -> dict[Sample, float]:
    return {key: value for key, value in series.items() if key[0].startswith("maas_")}


def of(series: dict[Sample, float], name: str, **labels: str) -> float:
    return series[name, tuple(sorted({"version": "1", "model": "double", **labels}.items()))]


@in_loop
async def test_metrics_add_up_over_real_requests() -> None:
    """Every request has one outcome; queue, compute and overhead are observed once for each answer, rows once a batch."""
    async with serving(
        Model(), Model(name="ill", fail_with=ModelFailed("no", code="non_finite_output"))
    ) as service:
        await asyncio.gather(*(service.predict({"x": [i, i]}) for i in range(10)))
        await service.predict({"x": [[1, 2]] * 3})
        await service.predict({"x": [1]})
        await service.predict({"x": [1, 2]}, "ill")
        await service.predict({"x": [1, 2]}, "nobody")
        batches = len(service.instances["double/1"].batches)
        answer = await service.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    series = parse(answer.content)
    assert of(series, "maas_requests_total", outcome="ok") == 11
    assert of(series, "maas_requests_total", outcome="invalid_request") == 1
    assert of(series, "maas_requests_total", model="ill", outcome="non_finite_output") == 1
    assert of(series, "maas_requests_total", model="other", version="", outcome="model_not_found") == 1
    for name in "queue", "compute", "overhead":
        assert of(series, f"maas_{name}_seconds_count") == 11
    assert of(series, "maas_batch_rows_count") == batches
    assert of(series, "maas_batch_rows_sum") == 13
    assert of(series, "maas_queue_requests") == 0
    assert of(series, "maas_running_requests") == 0
    assert of(series, "maas_instance_deaths_total") == 0
    states = {dict(labels)["state"] for name, labels in series if name == "maas_instances"}
    assert states == {"starting", "ready", "waiting", "failed"}


@in_loop
async def test_refusal_counts_under_the_model_that_refused() -> None:
    """A version that is not ready, or whose queue is full, counts its refusals under its own name."""
    async with serving(Model(state="loading")) as service:
        await service.predict({"x": [1, 2]})
        series = parse((await service.get("/metrics")).content)
    assert of(series, "maas_requests_total", outcome="model_not_ready") == 1


@in_loop
async def test_waiting_and_running_requests_are_gauged() -> None:
    """At a scrape the gauges say how many requests wait and how many run."""
    async with serving(Model(seconds=3600)) as service:
        hanging = [asyncio.ensure_future(service.predict({"x": [1, 2]}))]
        await service.until_running(1)
        hanging += [asyncio.ensure_future(service.predict({"x": [1, 2]})) for _ in range(3)]
        await service.until_waiting(3)
        series = parse((await service.get("/metrics")).content)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    assert (of(series, "maas_queue_requests"), of(series, "maas_running_requests")) == (3, 1)


@in_loop
async def test_unknown_names_make_one_series() -> None:
    """2 000 names that nobody serves, in both dialects and with odd versions, add one series: `other`."""
    async with serving() as service:
        await service.predict({"x": [1, 2]})
        before = ours(parse((await service.get("/metrics")).content))
        for number in range(0, 2_000, 4):
            for path in (
                f"/predict/m{number}",
                f"/predict/double/versions/{number + 2}",
                f"/v2/models/é{number}/infer",
                f"/v2/models/double/versions/v%0A{number}/infer",
            ):
                assert (await service.post(path, b"{}")).status_code == 404
        after = ours(parse((await service.get("/metrics")).content))
    new = set(after) - set(before)
    assert new == {
        ("maas_requests_total", (("model", "other"), ("outcome", "model_not_found"), ("version", "")))
    }
    assert [after[key] for key in new] == [2_000]


def test_other_stands_for_what_is_not_served() -> None:
    """Whatever is not served is counted as `other`, without a version."""
    assert OTHER == ("other", "")


def quiet() -> Metrics:
    return Metrics(list)


def test_fresh_metrics_parse() -> None:
    """Before the first request the text parses, and only the process itself has series."""
    assert ours(parse(quiet().expose())) == {}


def test_tasks_of_the_gateway_are_gauged() -> None:
    """The number of tasks is asked for at each scrape."""
    counts = iter((20, 21))
    metrics = Metrics(list, lambda: next(counts))
    assert [parse(metrics.expose())["maas_tasks", ()] for _ in range(2)] == [20, 21]


def test_odd_label_values_are_escaped() -> None:
    """Quotes, backslashes and line ends in a label cannot end it."""
    odd = 'a"b\\c\nd} 1\nmaas_requests_total 7'
    metrics = Metrics(lambda: [((odd, "1"), Gauges(1, 2, {"ready": 3}, 4))])
    metrics.count_error((odd, "1"), "model_error")
    series = ours(parse(metrics.expose()))
    assert {dict(labels)["model"] for _, labels in series} == {odd}
    assert series["maas_instances", (("model", odd), ("state", "ready"), ("version", "1"))] == 3


def test_batch_is_observed_for_each_of_its_requests() -> None:
    """A batch of three requests adds three to queue and compute and one to the rows."""
    metrics = quiet()
    metrics.observe_batch(("double", "1"), BatchObservation([0.0, 0.002, 0.02], 7, 0.5))
    series = parse(metrics.expose())
    assert of(series, "maas_queue_seconds_count") == 3
    assert of(series, "maas_queue_seconds_sum") == pytest.approx(0.022)
    assert of(series, "maas_compute_seconds_count") == 3
    assert of(series, "maas_compute_seconds_sum") == pytest.approx(1.5)
    assert of(series, "maas_batch_rows_count") == 1
    assert of(series, "maas_batch_rows_bucket", le="8") == 1
    assert of(series, "maas_batch_rows_bucket", le="4") == 0


def test_padding_is_counted_beside_what_is_not() -> None:
    """Over any window the two counters give the share of padding; a model without variable dimensions has neither."""
    metrics = quiet()
    metrics.observe_batch(("plain", "1"), BatchObservation([0.0], 1, 0.5))
    metrics.observe_batch(("double", "1"), BatchObservation([0.0], 1, 0.5, elements=60, padding=4))
    metrics.observe_batch(("double", "1"), BatchObservation([0.0], 1, 0.5, elements=40))
    series = parse(metrics.expose())
    assert of(series, "maas_batch_elements_total", kind="own") == 100
    assert of(series, "maas_batch_elements_total", kind="padding") == 4
    assert len([name for name, _ in series if name == "maas_batch_elements_total"]) == 2


def test_bounds_are_inclusive() -> None:
    """A value that equals a bound is in its bucket, as Prometheus has it."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.cumulated() == ([("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)], 7.5)


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(1, 100))
def test_what_is_kept_is_counted_as_if_it_had_been_observed(values: list[float], times: int) -> None:
    """However much comes, and whether it comes alone or together, nothing is lost and nothing counted twice."""
    observed, alone, together = (Histogram((0.001, 0.1, 1.0, 10.0)) for _ in range(3))
    for value in values * times:
        observed.observe(value)
        alone.keep_all([value])
    for _ in range(times):
        together.keep_all(values)
    assert observed.count == alone.count == together.count == len(values) * times
    buckets, total = observed.cumulated()
    for other in (alone, together, alone):  # the last for the second time
        assert other.cumulated() == (buckets, pytest.approx(total))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 5))))
def test_histogram_is_monotone_and_consistent(observations: list[tuple[float, int]]) -> None:
    """Buckets never fall, the last one equals the count, each holds what is at most its bound, and the sum is the sum."""
    histogram = Histogram((0.001, 0.1, 1.0, 10.0))
    for value, count in observations:
        histogram.observe(value, count)
    buckets, total = histogram.cumulated()
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == histogram.count == sum(count for _, count in observations)
    for bound, cumulated in buckets:
        assert cumulated == sum(count for value, count in observations if value <= float(bound))
    assert math.isclose(
        total, sum(value * count for value, count in observations), rel_tol=1e-9, abs_tol=1e-12
    )
