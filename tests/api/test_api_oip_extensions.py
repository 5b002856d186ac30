"""What clients of the reference server ask beside inference: configuration, statistics, the repository."""

from __future__ import annotations

import json

import pytest
from tests.api.harness import Model, in_loop, serving

from maas.errors import ModelFailed

PLAIN = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


@pytest.mark.parametrize("version", ["", "/versions/1"])
@in_loop
async def test_configuration_leaves_out_the_batch(version: str) -> None:
    """Dimensions are those of a row where all tensors are batched along their first axis."""
    model = Model(
        inputs={"x": "float32[batch, 2]", "t": "bytes[batch]"},
        outputs={"y": "float16[batch, 3]", "z": "bfloat16[batch, 3]"},
        max_batch_size=7,
    )
    async with serving(model) as service:
        config = (await service.get(f"/v2/models/double{version}/config")).json()
    assert config["name"] == "double"
    assert config["max_batch_size"] == 7
    assert config["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [2], "optional": False},
        {"name": "t", "data_type": "TYPE_STRING", "dims": [], "optional": False},
    ]
    assert config["output"] == [
        {"name": "y", "data_type": "TYPE_FP16", "dims": [3]},
        {"name": "z", "data_type": "TYPE_BF16", "dims": [3]},
    ]
    assert config["version_policy"] == {"all": {}}
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] >= 0


@in_loop
async def test_configuration_of_a_model_that_is_not_batched_along_its_first_axes() -> None:
    """Then `max_batch_size` is 0, which means that requests have the declared dimensions."""
    model = Model(inputs={"x": "float32[2, batch]"}, outputs={"y": "float32[2, batch]"})
    async with serving(model) as service:
        config = (await service.get("/v2/models/double/config")).json()
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [2, -1])
    assert "dynamic_batching" not in config


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, {"all": {}}),
        ({"versions": "all", "default": "1"}, {"all": {}}),
        ({"versions": "highest"}, {"latest": {"num_versions": 1}}),
        ({"versions": "highest", "default": "1"}, {"specific": {"versions": [1]}}),
        ({"versions": ["2", "1"]}, {"specific": {"versions": [2, 1]}}),
        ({"versions": ["2", "1.10", "beta", "007", "9" * 20]}, {"specific": {"versions": [2]}}),
    ],
)
@in_loop
async def test_configuration_says_which_versions_are_served(
    options: dict[str, object], policy: dict[str, object]
) -> None:
    """As the operator wants it; of a list those that are whole numbers, for others have no place there."""
    models = [Model(version=version) for version in ("1", "2", "1.10", "beta", "007", "9" * 20)]
    wanted = options.get("versions", "all")
    served = [m for m in models if m.version in (wanted if isinstance(wanted, list) else ("1", "2"))]
    if wanted == "highest":
        served = [Model(version=str(options.get("default", "2")))]
    async with serving(*served, configuration={"models": {"double": options}}) as service:
        config = (await service.get("/v2/models/double/config")).json()
    assert config["version_policy"] == policy


@in_loop
async def test_metadata_names_the_versions_that_may_be_asked() -> None:
    """One that failed is none of them; it is in the index, with the reason."""
    models = (Model(), Model(version="2"), Model(version="3", state="failed", reason="it is broken"))
    async with serving(*models) as service:
        versions = (await service.get("/v2/models/double")).json()["versions"]
        index = (await service.post("/v2/repository/index", b"")).json()
    assert versions == ["1", "2"]
    assert [entry["version"] for entry in index] == ["1", "2", "3"]


@in_loop
async def test_statistics_count_what_was_done() -> None:
    """Requests by their fate, rows, batches, and batches by their size; a caller's error is a failure."""
    async with serving(Model(), Model(name="other")) as service:
        before = (await service.get("/v2/models/double/stats")).json()["model_stats"]
        for data, shape in (([1, 2], [1, 2]), ([1, 2, 3, 4], [2, 2]), ([1, 2], [1, 2])):
            answer = await service.infer({"inputs": [{**PLAIN, "data": data, "shape": shape}]})
            assert answer.status_code == 200
        await service.infer({"inputs": []})
        service.instances["double/1"].fail_with = ModelFailed("it is broken")
        await service.infer({"inputs": [PLAIN]})
        (after,) = (await service.get("/v2/models/double/versions/1/stats")).json()["model_stats"]
        everyone = (await service.get("/v2/models/stats")).json()["model_stats"]
    assert (before[0]["inference_count"], before[0]["last_inference"], before[0]["batch_stats"]) == (0, 0, [])
    assert (after["name"], after["version"]) == ("double", "1")
    assert (after["inference_count"], after["execution_count"]) == (4, 3)
    assert after["last_inference"] > 1_600_000_000_000
    stats = after["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 2)
    assert {
        stats[part]["count"] for part in ("queue", "compute_input", "compute_infer", "compute_output")
    } == {3}
    assert stats["success"]["ns"] >= stats["queue"]["ns"] + stats["compute_infer"]["ns"]
    assert stats["fail"]["ns"] > 0
    assert [(size["batch_size"], size["compute_infer"]["count"]) for size in after["batch_stats"]] == [
        (1, 2),
        (2, 1),
    ]
    assert [each["name"] for each in everyone] == ["double", "other"]


@in_loop
async def test_index_has_what_is_served_what_is_broken_and_what_is_not_served() -> None:
    """Whatever stands in the repository, with its state and the reason for it."""
    models = (
        Model(),
        Model(version="2", state="failed", reason="golden sample 0 is off"),
        Model(name="bad", broken="its manifest cannot be read"),
        Model(name="gone"),
    )
    async with serving(*models, allow_control=True) as service:
        await service.post("/v2/repository/models/gone/unload", {"parameters": {"unload_dependents": False}})
        index = (await service.post("/v2/repository/index", b"")).json()
        ready = (await service.post("/v2/repository/index", {"ready": True})).json()
    found = {(entry["name"], entry["version"]): (entry["state"], entry["reason"]) for entry in index}
    assert found[("double", "1")] == ("READY", "")
    assert found[("double", "2")] == ("UNAVAILABLE", "golden sample 0 is off")
    assert found[("bad", "1")][0] == "UNAVAILABLE"
    assert "its manifest cannot be read" in found[("bad", "1")][1]
    assert found[("gone", "1")] == ("UNAVAILABLE", "unloaded")
    assert [entry["name"] for entry in ready] == ["double"]


@in_loop
async def test_unloaded_model_answers_no_more() -> None:
    """Unloading drains every version; the model is known yet, and not ready. An unknown one is a 404."""
    async with serving(allow_control=True) as service:
        gone = await service.post("/v2/repository/models/double/unload", b"")
        after = await service.infer({"inputs": [PLAIN]})
        again = await service.post("/v2/repository/models/double/unload", b"")
        unknown = await service.post("/v2/repository/models/nobody/load", b"")
        ready = [await service.get(f"/v2/models/double{version}/ready") for version in ("", "/versions/1")]
        never = await service.get("/v2/models/double/versions/2/ready")
    assert [answer.status_code for answer in (*ready, never)] == [503, 503, 404]
    assert "it is unloaded" in ready[0].json()["error"]
    assert (gone.status_code, gone.json()[0]["state"]) == (200, "UNLOADING")
    assert (after.status_code, again.status_code, unknown.status_code) == (404, 404, 404)


@in_loop
async def test_loading_what_is_loaded_says_its_state() -> None:
    """It is what clients do at their start, to be sure."""
    async with serving(allow_control=True) as service:
        service.live().settled.set()
        loaded = await service.post("/v2/repository/models/double/load", b"")
    assert (loaded.status_code, loaded.json()["state"]) == (200, "READY")


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}, {"nested": {}}])
@in_loop
async def test_model_is_loaded_as_it_was_published(parameters: dict[str, object]) -> None:
    """A configuration or files in a load request are refused: a version is immutable."""
    async with serving(allow_control=True) as service:
        answer = await service.post("/v2/repository/models/double/load", {"parameters": parameters})
    assert answer.status_code == 400
    assert next(iter(parameters)) in answer.json()["error"]


@in_loop
async def test_unload_dependents_is_true_or_false() -> None:
    """Nothing depends on a model here, and what is neither is still an error."""
    async with serving(allow_control=True) as service:
        odd = await service.post(
            "/v2/repository/models/double/unload", {"parameters": {"unload_dependents": "x"}}
        )
        plain = await service.post(
            "/v2/repository/models/double/unload", {"parameters": {"unload_dependents": True}}
        )
    assert (odd.status_code, plain.status_code) == (400, 200)
    assert "'unload_dependents'" in odd.json()["error"]


@in_loop
async def test_control_needs_to_be_allowed() -> None:
    """Where others can reach the server nobody loads or unloads unless the configuration says so."""
    async with serving() as service:
        load = await service.post("/v2/repository/models/double/load", b"")
        unload = await service.post("/v2/repository/models/double/unload", b"")
        answer = await service.infer({"inputs": [PLAIN]})
    assert (load.status_code, unload.status_code, answer.status_code) == (403, 403, 200)
    assert "allow_control" in load.json()["error"]


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("systemsharedmemory/region/r/register", "system_shared_memory"),
        ("cudasharedmemory/status", "cuda_shared_memory"),
        ("trace/setting", "trace"),
        ("models/double/trace/setting", "trace"),
        ("logging", "logging"),
    ],
)
@in_loop
async def test_missing_extension_is_named(path: str, extension: str) -> None:
    """What is not served is a 404 that names it, and not in the server's metadata."""
    async with serving() as service:
        got = await service.get(f"/v2/{path}")
        posted = await service.post(f"/v2/{path}", b"{}")
        metadata = json.loads((await service.get("/v2")).content)
    assert (got.status_code, posted.status_code) == (404, 404)
    assert extension in got.json()["error"]
    assert extension not in metadata["extensions"]
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(metadata["extensions"])
