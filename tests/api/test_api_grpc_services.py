"""What stands beside inference: the repository, configuration, health, reflection, and the descriptors themselves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from tests.api.grpc_harness import rows, serving_grpc
from tests.api.harness import Model, in_loop

from maas.api.grpc import messages
from maas.api.grpc.messages import (
    ModelConfigRequest,
    RepositoryIndexRequest,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)
from maas.api.grpc.service import NAME

PACKAGE = Path(messages.__file__).parent


@in_loop
async def test_configuration_of_a_model() -> None:
    """As clients read it: the tensors of one row where rows are batched, else the whole ones and a batch size of 0."""
    whole = Model(name="whole", inputs={"x": "bytes[n]"}, outputs={"y": "int64[3]"}, max_batch_size=1)
    async with serving_grpc(Model(), whole) as service:
        config = (await service.call("ModelConfig", ModelConfigRequest(name="double"))).config
        assert (config.name, config.max_batch_size, config.backend) == ("double", 4, "fake")
        assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("x", 11, [2])]
        assert config.version_policy.HasField("all")
        config = (await service.call("ModelConfig", ModelConfigRequest(name="whole"))).config
        assert config.max_batch_size == 0
        assert [(i.data_type, list(i.dims)) for i in config.input] == [(13, [-1])]
        assert [(o.data_type, list(o.dims)) for o in config.output] == [(9, [3])]


@in_loop
async def test_configuration_says_which_versions_are_served() -> None:
    """All that are stored, the latest of them, or those that are listed."""
    wanted = {"double": ["2", "1"], "other": "highest"}
    options = {"models": {name: {"versions": versions} for name, versions in wanted.items()}}
    models = (Model(), Model(version="2"), Model(name="other"))
    async with serving_grpc(*models, configuration=options) as service:
        listed, latest = [
            (await service.call("ModelConfig", ModelConfigRequest(name=name))).config.version_policy
            for name in wanted
        ]
    assert list(listed.specific.versions) == [2, 1]
    assert latest.latest.num_versions == 1


@in_loop
async def test_statistics_are_those_of_what_was_done() -> None:
    """Of a version, of a model's, or of all: requests that were answered and failed, and batches by their rows."""
    async with serving_grpc(Model(), Model(name="other")) as service:
        for count in (1, 3, 3):
            await service.infer(rows(*[[1.0, 2.0]] * count))
        with pytest.raises(grpc.aio.AioRpcError):
            await service.infer(rows([1.0, 2.0, 3.0]))
        asked = messages.ModelStatisticsRequest(name="double", version="1")
        (found,) = (await service.call("ModelStatistics", asked)).model_stats
        assert (found.name, found.version) == ("double", "1")
        assert (found.inference_count, found.execution_count) == (7, 3)
        stats = found.inference_stats
        assert (stats.success.count, stats.fail.count, stats.queue.count) == (3, 1, 3)
        assert stats.success.ns > 0
        assert [(batch.batch_size, batch.compute_infer.count) for batch in found.batch_stats] == [
            (1, 1),
            (3, 2),
        ]
        everything = (await service.call("ModelStatistics")).model_stats
        assert [(each.name, each.execution_count) for each in everything] == [("double", 3), ("other", 0)]


@in_loop
async def test_index_lists_what_is_served_and_what_failed() -> None:
    """Every version with its state, or those that are ready."""
    models = (
        Model(),
        Model(version="2", state="failed", reason="it is odd"),
        Model(name="torn", broken="no file"),
    )
    async with serving_grpc(*models) as service:
        index = await service.call("RepositoryIndex")
        assert [(m.name, m.version, m.state, m.reason) for m in index.models] == [
            ("double", "1", "READY", ""),
            ("double", "2", "UNAVAILABLE", "it is odd"),
            ("torn", "1", "UNAVAILABLE", "no file"),
        ]
        ready = await service.call("RepositoryIndex", RepositoryIndexRequest(ready=True))
        assert [(m.name, m.version) for m in ready.models] == [("double", "1")]


@pytest.mark.parametrize("access", ["loopback", "open"])
@in_loop
async def test_models_are_unloaded_where_only_this_machine_may_ask(access: str) -> None:
    """As by `/admin`: with `access: loopback` a model goes; with `open` it stays, and the caller may not."""
    async with serving_grpc(configuration={"access": access}) as service:
        call = service.call("RepositoryModelUnload", RepositoryModelUnloadRequest(model_name="double"))
        if access == "loopback":
            await call
            assert service.service.gateway.registry.versions_of("double") == []
            ready = await service.call("ModelReady", messages.ModelReadyRequest(name="double"))
            assert not ready.ready
            return
        for refused in (
            call,
            service.call("RepositoryModelLoad", RepositoryModelLoadRequest(model_name="double")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert service.service.gateway.registry.versions_of("double")


@pytest.mark.parametrize(
    ("name", "value"), [("config", {"string_param": "{}"}), ("file:1/model.onnx", {"bytes_param": b"abc"})]
)
@in_loop
async def test_load_takes_no_files_from_a_caller(name: str, value: dict[str, Any]) -> None:
    """A model is loaded as it stands in the repository; what would make another of it is named."""
    request = RepositoryModelLoadRequest(model_name="double")
    request.parameters[name].CopyFrom(messages.ModelRepositoryParameter(**value))
    async with serving_grpc() as service:
        with pytest.raises(grpc.aio.AioRpcError, match=name) as caught:
            await service.call("RepositoryModelLoad", request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@in_loop
async def test_unloading_dependents_is_no_matter() -> None:
    """Clients send the parameter with every call; no model has dependents."""
    request = RepositoryModelUnloadRequest(model_name="double")
    request.parameters["unload_dependents"].bool_param = False
    async with serving_grpc() as service:
        await service.call("RepositoryModelUnload", request)
        assert service.service.gateway.registry.versions_of("double") == []


@pytest.mark.parametrize(
    ("method", "extension"),
    [
        ("SystemSharedMemoryStatus", "system_shared_memory"),
        ("SystemSharedMemoryRegister", "system_shared_memory"),
        ("SystemSharedMemoryUnregister", "system_shared_memory"),
        ("CudaSharedMemoryStatus", "cuda_shared_memory"),
        ("CudaSharedMemoryRegister", "cuda_shared_memory"),
        ("CudaSharedMemoryUnregister", "cuda_shared_memory"),
        ("TraceSetting", "trace"),
        ("LogSettings", "logging"),
    ],
)
@in_loop
async def test_extension_that_is_not_served_is_named(method: str, extension: str) -> None:
    """A client that asks for it is told what it lacks, and the metadata does not promise it."""
    async with serving_grpc() as service:
        call = service.channel.unary_unary(f"/{NAME}/{method}")
        with pytest.raises(grpc.aio.AioRpcError, match=extension) as caught:
            await call(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert extension not in (await service.call("ServerMetadata")).extensions


@pytest.mark.parametrize("method", [f"/{NAME}/None", "/inference.Other/ModelInfer", "/none"])
@in_loop
async def test_unknown_method_is_unimplemented(method: str) -> None:
    """Of the service, or of one that is not there."""
    async with serving_grpc() as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.channel.unary_unary(method)(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["ServerMetadata", "ModelReady", "RepositoryModelLoad"])
@in_loop
async def test_bytes_that_are_no_message_are_an_invalid_argument(method: str) -> None:
    """By every call, and so is a call without a message; what is too long for one without tensors is not looked into."""
    async with serving_grpc() as service:
        call = service.channel.unary_unary(f"/{NAME}/{method}")
        with pytest.raises(grpc.aio.AioRpcError, match=f"no {method}Request") as caught:
            await call(b"\xff\xff\xff", timeout=10)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bytes(1 << 20), timeout=10)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        empty = service.channel.stream_unary(f"/{NAME}/{method}")
        with pytest.raises(grpc.aio.AioRpcError, match="no message") as caught:
            await empty(iter(()), timeout=10)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@in_loop
async def test_health_of_a_model_is_its_readiness() -> None:
    """A model may be asked for by its name; one that failed does not serve, though the server does."""
    async with serving_grpc(Model(), Model(name="odd", state="failed", reason="it is odd")) as service:
        check = HealthStub(service.channel).Check
        found = [
            (await check(HealthCheckRequest(service=name), timeout=10)).status for name in ("double", "odd")
        ]
        assert found == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]
        watch = HealthStub(service.channel).Watch(HealthCheckRequest(service="none"), timeout=10)
        assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


@in_loop
async def test_health_follows_readiness() -> None:
    """`Check` says what holds, `Watch` what changes; a service that is not there is unknown."""
    async with serving_grpc() as service:
        health = HealthStub(service.channel)
        watch = health.Watch(HealthCheckRequest(service=NAME), timeout=20)
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        assert (await health.Check(HealthCheckRequest(), timeout=10)).status == HealthCheckResponse.SERVING
        service.service.gateway.is_leaving = True
        assert (
            await health.Check(HealthCheckRequest(), timeout=10)
        ).status == HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(10):
            assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        watch.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(HealthCheckRequest(service="other"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@in_loop
async def test_reflection_lists_and_describes(version: str) -> None:
    """A client without our file finds the services, and the files that declare them, by name or by symbol."""
    async with serving_grpc() as service:
        reflect = service.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        stream = reflect(timeout=10)
        await stream.write(ServerReflectionRequest(list_services=""))
        listed = [found.name for found in (await stream.read()).list_services_response.service]
        assert listed == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            NAME,
        ]
        for symbol in (*listed, "inference.ModelInferRequest.InferInputTensor"):
            await stream.write(ServerReflectionRequest(file_containing_symbol=symbol))
            [file] = (await stream.read()).file_descriptor_response.file_descriptor_proto
            assert symbol.startswith(FileDescriptorProto.FromString(file).package)
        await stream.write(ServerReflectionRequest(file_by_filename="inference.proto"))
        [file] = (await stream.read()).file_descriptor_response.file_descriptor_proto
        assert FileDescriptorProto.FromString(file).service[0].name == "GRPCInferenceService"
        await stream.write(ServerReflectionRequest(file_containing_symbol="none.None"))
        assert (await stream.read()).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        await stream.done_writing()


@in_loop
async def test_client_without_our_file_calls_the_server() -> None:
    """All that is known is the address: the messages come from the server."""
    async with serving_grpc() as service:

        def call() -> str:
            with grpc.insecure_channel(f"127.0.0.1:{service.server.port}") as channel:
                pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
                method = pool.FindServiceByName(NAME).FindMethodByName("ModelMetadata")
                asked, answered = map(GetMessageClass, (method.input_type, method.output_type))
                stub = channel.unary_unary(
                    f"/{NAME}/ModelMetadata",
                    request_serializer=asked.SerializeToString,
                    response_deserializer=answered.FromString,
                )
                return str(stub(asked(name="double"), timeout=10).inputs[0].name)

        assert await asyncio.to_thread(call) == "x"


def test_descriptors_are_those_of_the_proto(tmp_path: Path) -> None:
    """What the package keeps is what the compiler makes of `inference.proto`."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PACKAGE}", "inference.proto"]
    made = [f"--descriptor_set_out={tmp_path / 'made'}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, *made], check=True, timeout=60)
    assert (PACKAGE / "inference.descriptors").read_bytes() == (tmp_path / "made").read_bytes()
    assert (PACKAGE / "messages.pyi").read_text() == (tmp_path / "inference_pb2.pyi").read_text()


def test_messages_leave_the_shared_pool_alone() -> None:
    """Another `inference.*` may be in the process."""
    with pytest.raises(KeyError):
        Default().FindMessageTypeByName("inference.ModelInferRequest")


def test_server_without_the_port_does_not_import_grpc() -> None:
    """Who does not use gRPC has none of it in memory."""
    code = "import maas.server, sys; assert not {'grpc', 'google.protobuf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
