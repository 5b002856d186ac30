"""A model of bfloat16 from its author to its callers: published, proven, served by a real server, asked in every dialect."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import torch
from tests.api.grpc_harness import tensor
from tests.assets import torch_models
from tests.proving import LoadOnce
from tests.test_server import Server, serving
from tests.test_server_grpc import free_port

import maas
from maas import Bounds, Client
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.grpc.service import NAME
from maas.client.raw import PAYS_FROM
from maas.models.repository import Repository
from maas.runtimes.golden import load_golden
from maas.types import DEFAULT_TOLERANCES

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

ROWS, LENGTH = 128, 16
TOLERANCE = DEFAULT_TOLERANCES["bfloat16"]
FORMS = ("exported", "module")
ROW = np.array([[[0.1, 2, -3, 0.5]]], BFLOAT16)
MASK = np.ones((1, 1), BFLOAT16)


@pytest.fixture(scope="module")
def module() -> torch_models.Brain:
    torch.manual_seed(0)
    return torch_models.Brain()


@pytest.fixture(scope="module")
def server(
    module: torch_models.Brain, tmp_path_factory: pytest.TempPathFactory, _load_once: LoadOnce
) -> Iterator[tuple[Server, int]]:
    """A running server of the module in both of its forms, with the port of its gRPC side."""
    folder = tmp_path_factory.mktemp("bfloat16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maas.models.verification._load_once", _load_once)
        for form in FORMS:
            maas.publish(
                module,
                [torch.randn(3, 6, 4).bfloat16(), torch.ones(3, 6).bfloat16()],
                name=form,
                repository=folder / "models",
                form=form,
                inputs={"x": "bfloat16[batch, seq, 4]", "mask": "bfloat16[batch, seq]"},
                outputs={"y": "bfloat16[batch, 2]"},
                dimensions={"seq": Bounds(max=LENGTH, pad=0)},
                max_batch_size=ROWS,
            )
    port = free_port()
    with serving(folder / "models", folder, server={"port": 0, "grpc_port": port}) as running:
        yield running, port


@pytest.mark.parametrize("form", FORMS)
def test_golden_sample_is_the_module_s_own_answer(
    server: tuple[Server, int], form: str, module: torch_models.Brain
) -> None:
    """Inputs and outputs are stored as bfloat16, bit for bit."""
    version = Repository(server[0].log.parent / "models").read(form, "1")
    (golden,) = load_golden(version.directory, version.manifest.signature)
    inputs = [
        torch.from_numpy(golden.inputs[name].view(np.int16)).view(torch.bfloat16) for name in ("x", "mask")
    ]
    with torch.inference_mode():
        answer = module(*inputs)
    assert golden.outputs["y"].dtype == BFLOAT16
    assert golden.outputs["y"].tobytes() == answer.view(torch.int16).numpy().tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_every_dialect_gives_the_same_numbers(
    server: tuple[Server, int], form: str, module: torch_models.Brain
) -> None:
    """Native JSON, the Open Inference Protocol in JSON and raw, V1, gRPC and the client: what the module answers itself."""
    running, port = server
    with torch.inference_mode():
        own = module(torch.tensor(ROW.tolist()).bfloat16(), torch.ones(1, 1).bfloat16()).float().numpy()
    lists = {"x": ROW.tolist(), "mask": MASK.tolist()}
    entries = [
        {"name": name, "datatype": "BF16", "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in (("x", ROW), ("mask", MASK))
    ]
    native = running.post(f"/predict/{form}", lists).json()["y"]
    open_inference = running.post(f"/v2/models/{form}/infer", {"inputs": entries}).json()["outputs"][0]
    v1 = running.post(f"/v1/models/{form}:predict", {"inputs": lists}).json()["outputs"]
    with Client(running.url) as client:
        by_client = client.predict(form, {"x": ROW, "mask": MASK}).outputs["y"]
    assert native == v1 == by_client.tolist()
    assert (open_inference["datatype"], [open_inference["data"]]) == ("BF16", native)
    assert np.array_equal(np.array(native, np.float32), own)
    assert np.array_equal(ask_raw(port, form), own)


def ask_raw(port: int, model: str) -> np.ndarray[Any, Any]:
    request = ModelInferRequest(
        model_name=model,
        inputs=[tensor("x", "BF16", [1, 1, 4]), tensor("mask", "BF16", [1, 1])],
        raw_input_contents=[ROW.tobytes(), MASK.tobytes()],
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = channel.unary_unary(
            f"/{NAME}/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        answer = stub(request, timeout=30, wait_for_ready=True)
    assert answer.outputs[0].datatype == "BF16"
    return np.frombuffer(answer.raw_output_contents[0], BFLOAT16).reshape(1, 2).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_arrays_go_raw_where_they_are_large_and_padded_where_they_are_short(
    server: tuple[Server, int], form: str, module: torch_models.Brain
) -> None:
    """A caller's bfloat16 arrays, and float32 ones that are rounded to it, get the module's own answer."""
    rows = np.random.default_rng(0).standard_normal((ROWS, LENGTH, 4)).astype(BFLOAT16)
    ones = np.ones((ROWS, LENGTH), BFLOAT16)
    assert rows.nbytes >= PAYS_FROM > rows[:8].nbytes
    with Client(server[0].url) as client:
        whole = client.predict(form, {"x": rows, "mask": ones}).outputs["y"]
        widened = client.predict(form, {"x": rows.astype(np.float32), "mask": ones}).outputs["y"]
        with ThreadPoolExecutor(2) as threads:
            parts = threads.map(
                lambda length: client.predict(form, {"x": rows[:8, :length], "mask": ones[:8, :length]}),
                (7, 16),
            )
            short, long = (part.outputs["y"] for part in parts)
    assert np.array_equal(whole, widened)
    for found, length, count in ((whole, LENGTH, ROWS), (short, 7, 8), (long, LENGTH, 8)):
        x = torch.tensor(rows[:count, :length].tolist()).bfloat16()
        with torch.inference_mode():
            own = module(x, torch.ones(count, length).bfloat16()).float().numpy()
        np.testing.assert_allclose(found, own, TOLERANCE.relative, TOLERANCE.absolute)
