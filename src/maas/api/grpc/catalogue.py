"""What is served, and what may be changed of it: readiness, metadata, configuration and the repository, as messages."""

from __future__ import annotations

import orjson

import maas
from maas.api.grpc.messages import (
    ModelConfig,
    ModelConfigRequest,
    ModelConfigResponse,
    ModelDynamicBatching,
    ModelInput,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelOutput,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelVersionPolicy,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from maas.api.oip.datatypes import DATATYPES
from maas.errors import Forbidden, InvalidRequest
from maas.gateway import Gateway
from maas.models.live import LiveVersion, VersionState
from maas.types import BATCH, TensorSpec

_EXTENSIONS = ("model_configuration", "model_repository")
_STATES = {VersionState.READY: "READY", VersionState.LOADING: "LOADING"}  # all others are unavailable


class Catalogue:
    """One method for each call. Each raises errors of our tree; models are loaded and unloaded with `allow_control` only."""

    def __init__(self, gateway: Gateway, *, allow_control: bool) -> None:
        self._gateway = gateway
        self._registry = gateway.registry
        self._allow_control = allow_control

    async def server_live(self, _request: ServerLiveRequest) -> ServerLiveResponse:
        return ServerLiveResponse(live=True)

    async def server_ready(self, _request: ServerReadyRequest) -> ServerReadyResponse:
        return ServerReadyResponse(ready=self._gateway.readiness().is_ready)

    async def model_ready(self, request: ModelReadyRequest) -> ModelReadyResponse:
        live = self._find(request.name, request.version)
        return ModelReadyResponse(ready=not self._gateway.outage_of(live))

    async def server_metadata(self, _request: ServerMetadataRequest) -> ServerMetadataResponse:
        return ServerMetadataResponse(name="maas", version=maas.__version__, extensions=_EXTENSIONS)

    async def model_metadata(self, request: ModelMetadataRequest) -> ModelMetadataResponse:
        live = self._find(request.name, request.version)
        manifest = live.manifest
        return ModelMetadataResponse(
            name=live.name,
            versions=[other.version for other in self._registry.versions_of(live.name)],
            platform=manifest.runtime.name,
            inputs=[_describe(spec) for spec in live.signature.inputs],
            outputs=[_describe(spec) for spec in live.signature.outputs],
            properties={
                "version": live.version,
                "digest": live.digest,
                "description": manifest.description,
                "license": manifest.license or "",
                "card": orjson.dumps(manifest.card, option=orjson.OPT_NON_STR_KEYS).decode(),
                "curve": orjson.dumps(live.curve).decode(),
            },
        )

    async def model_config(self, request: ModelConfigRequest) -> ModelConfigResponse:
        return ModelConfigResponse(config=_configuration(self._find(request.name, request.version)))

    async def repository_index(self, request: RepositoryIndexRequest) -> RepositoryIndexResponse:
        found = [_index(live) for live in self._registry.versions()]
        found += [
            RepositoryIndexResponse.ModelIndex(
                name=broken.name, version=broken.version, state="UNAVAILABLE", reason=broken.reason
            )
            for broken in self._registry.broken
        ]
        return RepositoryIndexResponse(
            models=[model for model in found if not request.ready or model.state == "READY"]
        )

    async def load(self, request: RepositoryModelLoadRequest) -> RepositoryModelLoadResponse:
        """Answers when the model is ready. Raises `ModelNotReady` where it failed."""
        self._check_allowed()
        if request.parameters:
            raise InvalidRequest("a model is loaded as it stands in the repository: no parameters are taken")
        live = self._registry.load(request.model_name)
        await live.settled.wait()
        live.check_ready()
        return RepositoryModelLoadResponse()

    async def unload(self, request: RepositoryModelUnloadRequest) -> RepositoryModelUnloadResponse:
        """Its dependents would be unloaded too, if a model could have any; so that parameter is no matter."""
        self._check_allowed()
        self._registry.unload(request.model_name)
        return RepositoryModelUnloadResponse()

    def _find(self, name: str, version: str) -> LiveVersion:
        return self._gateway.resolve(name, version or None)

    def _check_allowed(self) -> None:
        if not self._allow_control:
            raise Forbidden(
                "models are loaded and unloaded with `access: loopback` only, until there are keys"
            )


def _describe(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    """A dimension that is not fixed is -1."""
    return ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=DATATYPES[spec.dtype], shape=_shape(spec.dims)
    )


def _configuration(live: LiveVersion) -> ModelConfig:
    """Dimensions are those of a row where rows are batched, and `max_batch_size` is 0 where they are not."""
    signature, policy = live.signature, live.policy
    return ModelConfig(
        name=live.name,
        platform=live.manifest.runtime.name,
        backend=live.manifest.runtime.name,
        version_policy=ModelVersionPolicy(all=ModelVersionPolicy.All()),
        max_batch_size=policy.max_batch_size if signature.is_batched else 0,
        input=[
            ModelInput(name=spec.name, data_type=_data_type(spec), dims=_row(spec))
            for spec in signature.inputs
        ],
        output=[
            ModelOutput(name=spec.name, data_type=_data_type(spec), dims=_row(spec))
            for spec in signature.outputs
        ],
        dynamic_batching=ModelDynamicBatching(
            max_queue_delay_microseconds=round(policy.max_queue_delay * 1e6)
        )
        if signature.is_batched
        else None,
    )


def _data_type(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.dtype == "bytes" else f"TYPE_{DATATYPES[spec.dtype]}"


def _row(spec: TensorSpec) -> list[int]:
    return _shape(tuple(dim for dim in spec.dims if dim != BATCH))


def _shape(dims: tuple[int | str, ...]) -> list[int]:
    return [dim if isinstance(dim, int) else -1 for dim in dims]


def _index(live: LiveVersion) -> RepositoryIndexResponse.ModelIndex:
    return RepositoryIndexResponse.ModelIndex(
        name=live.name,
        version=live.version,
        state=_STATES.get(live.state, "UNAVAILABLE"),
        reason=live.reason,
    )
