"""The bodies of what is no inference: health, metadata, the catalogue, the repository, operators' operations.

Which operation has which stands in a table by method and path; a version's path has what its model's has. Objects may get
more members: what reads them leaves alone what it does not know.
"""

from __future__ import annotations

from maas.api.openapi.bodies import parameters
from maas.api.openapi.errors import error_response
from maas.api.openapi.schema import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    WHOLE,
    Schema,
    array,
    described,
    json_content,
    record,
    ref,
)
from maas.dtypes import DTYPES
from maas.models.live import VersionState

_TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}

_ANSWERS: dict[str, Schema] = {
    "GET /": ref("Alive"),
    "GET /models": ref("Catalogue"),
    "GET /models/{model}": ref("ModelDescription"),
    "GET /v1/models": ref("ListedModels"),
    "GET /v1/models/{model}": ref("ListedModelState"),
    "GET /v2": ref("ServerMetadata"),
    "GET /v2/health/live": ref("ServerLive"),
    "GET /v2/health/ready": ref("ServerReady"),
    "GET /v2/models/{model}": ref("ModelMetadata"),
    "GET /v2/models/{model}/ready": ref("ModelReady"),
    "GET /v2/models/{model}/config": ref("ModelConfig"),
    "GET /v2/models/stats": ref("ModelStatisticsList"),
    "GET /v2/models/{model}/stats": ref("ModelStatisticsList"),
    "POST /v2/repository/index": array(ref("RepositoryEntry")),
    "POST /v2/repository/models/{model}/load": ref("RepositoryEntry"),
    "POST /v2/repository/models/{model}/unload": array(ref("RepositoryEntry")),
    "POST /admin/refresh": ref("ServedVersions"),
    "POST /admin/models/{model}/load": ref("ServedVersion"),
    "POST /admin/models/{model}/unload": ref("ServedVersions"),
}
_REQUESTS = {
    "POST /v2/repository/index": "RepositoryIndexRequest",
    "POST /v2/repository/models/{model}/load": "RepositoryLoadRequest",
    "POST /v2/repository/models/{model}/unload": "RepositoryUnloadRequest",
}
_METRICS: Schema = {"text/plain": {"schema": TEXT}}


def declare_bodies(document: Schema) -> None:
    """FastAPI knows of an answer only that it is JSON, and nothing of requests that our routes read by themselves."""
    document["components"]["schemas"] |= _SCHEMAS
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            key = f"{method.upper()} {path.replace('/versions/{version}', '')}"
            content = json_content(_ANSWERS[key]) if key in _ANSWERS else _METRICS
            operation["responses"]["200"] = {"description": "What is asked for.", "content": content}
            if path.endswith("/ready"):
                operation["responses"]["503"] = error_response("503", "NotReady")
            if key in _REQUESTS:
                operation["requestBody"] = {"content": json_content(ref(_REQUESTS[key]))}


def _version(**more: Schema) -> dict[str, Schema]:
    reason = described(TEXT, "Why it is not ready, or what it lacks; else empty.")
    return {"name": TEXT, "version": TEXT, "state": ref("VersionState"), "reason": reason, **more}


_SUMMARY = _version(default=described(FLAG, "It answers where no version is named."), digest=TEXT)
_CARD: dict[str, Schema] = {
    "id": TEXT,
    "object": {"const": "model"},
    "created": described(WHOLE, "Seconds of the epoch, when it was published."),
    "owned_by": TEXT,
}


def _ready(**members: Schema) -> dict[str, Schema]:
    return {**members, "ready": FLAG}


_NATIVE: dict[str, Schema] = {
    "VersionState": {"type": "string", "enum": list(VersionState)},
    "Catalogue": record({"models": array(ref("CatalogueEntry"))}),
    "CatalogueEntry": record(_SUMMARY, optional=("default", "digest")),
    "ModelDescription": record(
        {
            **_SUMMARY,
            "description": TEXT,
            "license": {"type": ["string", "null"]},
            "runtime": TEXT,
            "idempotent": described(FLAG, "Asked twice it does what it does asked once."),
            "allow_non_finite": FLAG,
            "inputs": array(ref("TensorDeclaration")),
            "outputs": array(ref("TensorDeclaration")),
            "dimensions": {"type": "object", "additionalProperties": ref("DimensionBounds")},
            "batching": ref("BatchLimits"),
            "curve": array(ref("CurvePoint")),
            "card": {"type": "object", "additionalProperties": True},
        }
    ),
    "TensorDeclaration": record(
        {
            "name": TEXT,
            "dtype": {"type": "string", "enum": list(DTYPES)},
            "shape": array({"type": ["integer", "string"]}, description="Lengths, or names of dimensions."),
            "default": {
                "type": ["boolean", "number", "string"],
                "description": "Each element of an input that is left out; without one it may not be.",
            },
        },
        optional=["default"],
    ),
    "DimensionBounds": record(
        {
            "min": COUNT,
            "max": {"type": ["integer", "null"]},
            "pad": {
                "description": "The element that it may be padded with, or one for each input; else null."
            },
        }
    ),
    "BatchLimits": record(
        {
            "max_batch_size": described(COUNT, "In rows."),
            "max_batch_cost": {"type": ["integer", "null"], "description": "In elements, padding included."},
            "max_queue_delay": described(NUMBER, "In seconds."),
        }
    ),
    "CurvePoint": record({"rows": COUNT, "elements": COUNT, "seconds": NUMBER}),
    "ServedVersion": record(_version()),
    "ServedVersions": record({"models": array(ref("ServedVersion"))}),
}

_LISTING: dict[str, Schema] = {
    "Alive": record({"status": {"const": "alive"}}),
    "ListedModel": record(_CARD),
    "ListedModels": record(
        {"object": {"const": "list"}, "data": array(ref("ListedModel")), "models": array(TEXT)}
    ),
    "ListedModelState": record(_ready(**_CARD, name=TEXT)),
}

_METADATA: dict[str, Schema] = {
    "ServerLive": record({"live": FLAG}),
    "ServerReady": record(
        _ready(failed=described(_TEXTS, "Versions that failed, with their reasons.")), optional=["failed"]
    ),
    "ModelReady": record(_ready(name=TEXT, version=TEXT)),
    "NotReady": record(
        {"error": TEXT, "ready": FLAG, "failed": _TEXTS, "name": TEXT, "version": TEXT},
        optional=("ready", "failed", "name", "version"),
    ),
    "ServerMetadata": record({"name": TEXT, "version": TEXT, "extensions": array(TEXT)}),
    "ModelMetadata": record(
        {
            "name": TEXT,
            "versions": array(TEXT),
            "platform": TEXT,
            "inputs": array(ref("TensorMetadata")),
            "outputs": array(ref("TensorMetadata")),
            "properties": ref("ModelProperties"),
        }
    ),
    "TensorMetadata": record(
        {
            "name": TEXT,
            "datatype": ref("Datatype"),
            "shape": array(WHOLE, description="-1 where it is not fixed."),
        }
    ),
    "ModelProperties": record(
        {
            "version": TEXT,
            "digest": TEXT,
            "description": TEXT,
            "license": TEXT,
            "card": described(TEXT, "JSON."),
            "curve": described(TEXT, "JSON."),
            "defaults": described(TEXT, "JSON: by input that may be left out, what its elements are then."),
        }
    ),
}

_CONFIG: dict[str, Schema] = {
    "ModelConfig": record(
        {
            "name": TEXT,
            "platform": TEXT,
            "backend": TEXT,
            "version_policy": ref("VersionPolicy"),
            "max_batch_size": described(
                COUNT, "0 where tensors do not all have `batch` as their first axis."
            ),
            "input": array(ref("ConfigTensor")),
            "output": array(ref("ConfigTensor")),
            "dynamic_batching": ref("DynamicBatching"),
        },
        optional=["dynamic_batching"],
    ),
    "VersionPolicy": record(
        {"all": ref("AllVersions"), "latest": ref("LatestVersions"), "specific": ref("SpecificVersions")},
        optional=("all", "latest", "specific"),
    ),
    "AllVersions": record({}),
    "LatestVersions": record({"num_versions": COUNT}),
    "SpecificVersions": record({"versions": array(COUNT)}),
    "ConfigTensor": record(
        {
            "name": TEXT,
            "data_type": TEXT,
            "dims": array(WHOLE),
            "optional": described(FLAG, "Of an input: it may be left out."),
        },
        optional=["optional"],
    ),
    "DynamicBatching": record({"max_queue_delay_microseconds": COUNT}),
}

_TIMES = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), ref("StatisticDuration"))
_STATISTICS: dict[str, Schema] = {
    "ModelStatisticsList": record({"model_stats": array(ref("ModelStatistics"))}),
    "ModelStatistics": record(
        {
            "name": TEXT,
            "version": TEXT,
            "last_inference": described(COUNT, "Milliseconds of the epoch; 0 before the first."),
            "inference_count": described(COUNT, "Rows."),
            "execution_count": described(COUNT, "Batches."),
            "inference_stats": ref("InferStatistics"),
            "batch_stats": array(ref("InferBatchStatistics")),
        }
    ),
    "InferStatistics": record(
        {
            **dict.fromkeys(("success", "fail", "queue"), ref("StatisticDuration")),
            **_TIMES,
            **dict.fromkeys(("cache_hit", "cache_miss"), ref("StatisticDuration")),
        }
    ),
    "InferBatchStatistics": record({"batch_size": COUNT, **_TIMES}),
    "StatisticDuration": record({"count": COUNT, "ns": COUNT}),
}

_REPOSITORY: dict[str, Schema] = {
    "RepositoryState": {"type": "string", "enum": ["LOADING", "READY", "UNAVAILABLE", "UNLOADING"]},
    "RepositoryEntry": record(
        {
            "name": TEXT,
            "version": TEXT,
            "state": ref("RepositoryState"),
            "reason": TEXT,
        }
    ),
    "RepositoryIndexRequest": record(
        {"ready": described(FLAG, "Only those that are ready.")}, optional=["ready"]
    ),
    "RepositoryLoadRequest": record({"parameters": ref("LoadParameters")}, optional=["parameters"]),
    "LoadParameters": parameters({}),
    "RepositoryUnloadRequest": record({"parameters": ref("UnloadParameters")}, optional=["parameters"]),
    "UnloadParameters": parameters({"unload_dependents": FLAG}),
}

_SCHEMAS = {**_NATIVE, **_LISTING, **_METADATA, **_CONFIG, **_STATISTICS, **_REPOSITORY}
