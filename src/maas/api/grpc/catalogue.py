"""What is served, and what may be changed of it: readiness, metadata, configuration and the repository, as messages."""

from __future__ import annotations

import maas
from maas.api.admin import Control
from maas.api.grpc.messages import (
    ModelConfig,
    ModelConfigRequest,
    ModelConfigResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatistics,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
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
from maas.api.grpc.parameters import read_load_parameters
from maas.api.oip.config import model_config
from maas.api.oip.extensions import EXTENSIONS, RAW_TENSORS
from maas.api.oip.metadata import describe_model
from maas.api.oip.repository import load, repository_index, unload
from maas.api.oip.statistics import model_statistics
from maas.gateway import Gateway
from maas.models.live import LiveVersion
from maas.telemetry.metrics import Metrics

# Raw contents are of the protocol itself here.
_EXTENSIONS = tuple(name for name in EXTENSIONS if name != RAW_TENSORS)


class Catalogue:
    """One method for each call. Each raises errors of our tree."""

    def __init__(self, gateway: Gateway, metrics: Metrics, control: Control) -> None:
        self._gateway = gateway
        self._registry = gateway.registry
        self._metrics = metrics
        self._control = control

    async def server_live(self, _request: ServerLiveRequest) -> ServerLiveResponse:
        return ServerLiveResponse(live=True)

    async def server_ready(self, _request: ServerReadyRequest) -> ServerReadyResponse:
        return ServerReadyResponse(ready=self._gateway.readiness().is_ready)

    async def model_ready(self, request: ModelReadyRequest) -> ModelReadyResponse:
        """A model that was unloaded is known, and not ready; one that there is not is an error."""
        if self._registry.is_unloaded(request.name, request.version or None):
            return ModelReadyResponse(ready=False)
        live = self._find(request.name, request.version)
        return ModelReadyResponse(ready=not self._gateway.outage_of(live))

    async def server_metadata(self, _request: ServerMetadataRequest) -> ServerMetadataResponse:
        return ServerMetadataResponse(name="maas", version=maas.__version__, extensions=_EXTENSIONS)

    async def model_metadata(self, request: ModelMetadataRequest) -> ModelMetadataResponse:
        live = self._find(request.name, request.version)
        return ModelMetadataResponse(**describe_model(self._registry, live))

    async def model_config(self, request: ModelConfigRequest) -> ModelConfigResponse:
        live = self._find(request.name, request.version)
        return ModelConfigResponse(config=ModelConfig(**model_config(self._registry, live)))

    async def model_statistics(self, request: ModelStatisticsRequest) -> ModelStatisticsResponse:
        """Of a version, of all of a model, or of all models where none is named."""
        if request.version:
            versions = [self._find(request.name, request.version)]
        elif request.name:
            versions = self._registry.versions_of(request.name) or [self._find(request.name, "")]
        else:
            versions = self._registry.versions()
        found = [ModelStatistics(**model_statistics(self._metrics, live)) for live in versions]
        return ModelStatisticsResponse(model_stats=found)

    async def repository_index(self, request: RepositoryIndexRequest) -> RepositoryIndexResponse:
        found = repository_index(self._registry, only_ready=request.ready)
        return RepositoryIndexResponse(
            models=[RepositoryIndexResponse.ModelIndex(**entry) for entry in found]
        )

    async def load(self, request: RepositoryModelLoadRequest) -> RepositoryModelLoadResponse:
        """Answers when the model is ready."""
        self._control.check()
        await load(self._registry, request.model_name, read_load_parameters(request.parameters))
        return RepositoryModelLoadResponse()

    async def unload(self, request: RepositoryModelUnloadRequest) -> RepositoryModelUnloadResponse:
        self._control.check()
        unload(self._registry, request.model_name, read_load_parameters(request.parameters))
        return RepositoryModelUnloadResponse()

    def _find(self, name: str, version: str) -> LiveVersion:
        return self._gateway.resolve(name, version or None)
