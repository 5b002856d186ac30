"""A model's configuration as the reference server's clients read it, for REST and gRPC alike.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_configuration.md

Its batches are along the first axis of every tensor and its tensors' dimensions leave that one out; `max_batch_size` is 0 where a
model of ours is not batched in that way, and the dimensions are then all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maas.api.oip.datatypes import DATATYPES
from maas.models.live import LiveVersion
from maas.models.registry import Registry
from maas.types import TensorSpec

_MICROSECONDS = 1e6
_MAX_VERSION = (1 << 63) - 1  # as the message has it


def model_config(registry: Registry, live: LiveVersion) -> dict[str, Any]:
    """With the names and the types of the extension's message `ModelConfig`."""
    signature, policy = live.signature, live.policy
    specs = (*signature.inputs, *signature.outputs)
    is_batched = all(spec.batch_axis == 0 for spec in specs)
    config: dict[str, Any] = {
        "name": live.name,
        "platform": live.manifest.runtime.name,
        "backend": live.manifest.runtime.name,
        "version_policy": _version_policy(registry.policy_of(live.name)),
        "max_batch_size": policy.max_batch_size if is_batched else 0,
        "input": [
            {**_tensor(spec, is_batched), "optional": spec.default is not None} for spec in signature.inputs
        ],
        "output": [_tensor(spec, is_batched) for spec in signature.outputs],
    }
    if is_batched:
        delay = round(policy.max_queue_delay * _MICROSECONDS)
        config["dynamic_batching"] = {"max_queue_delay_microseconds": delay}
    return config


def _version_policy(wanted: str | Sequence[str]) -> dict[str, Any]:
    """Versions are whole numbers there; one with another name cannot be listed, and stands in the model's metadata only."""
    if wanted == "all":
        return {"all": {}}
    if wanted == "highest":
        return {"latest": {"num_versions": 1}}
    return {"specific": {"versions": [int(version) for version in wanted if _is_whole(version)]}}


def _is_whole(version: str) -> bool:
    return version.isdecimal() and str(int(version)) == version and int(version) <= _MAX_VERSION


def _tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    dims = spec.dims[1:] if is_batched else spec.dims
    datatype = DATATYPES[spec.dtype]
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
        "dims": [dim if isinstance(dim, int) else -1 for dim in dims],
    }
