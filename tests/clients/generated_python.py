"""Calls the demo models by the SDK that `openapi-python-client` made, in its environment: `generated_python.py DOCUMENT URL`.

Not a line of the SDK is edited; what it is asked are the document's own examples.
"""

from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from pathlib import Path

from maas_sdk import Client
from maas_sdk.api.models import get_model, get_v1_model, list_models, list_v1_models
from maas_sdk.api.open_inference_protocol import (
    config,
    index,
    infer,
    model_metadata,
    ready,
    server,
    statistics,
)
from maas_sdk.api.predict import predict_add_sub, predict_digits_cnn, predict_longley
from maas_sdk.api.v1 import v1_predict
from maas_sdk.models import (
    AddSub1Request,
    AddSub1Response,
    Catalogue,
    Datatype,
    InferError,
    InferParameters,
    InferRequest,
    InferResponse,
    InferTensor,
    ListedModelState,
    Longley1Request,
    ModelConfig,
    ModelDescription,
    ModelMetadata,
    ModelStatisticsList,
    OpenAIError,
    PredictError,
    Priority,
    RepositoryIndexRequest,
    RepositoryState,
    RequestedOutput,
    ServerMetadata,
    ServerReady,
    V1Error,
    V1Inputs,
    V1Instances,
    V1Response,
    VersionState,
)

ROW = [83.0, 234289, 2356, 1590, 107608, 1947]
EMPLOYMENT = 60055.65997024028


def main(document: str, url: str) -> None:
    paths = json.loads(Path(document).read_text())["paths"]
    client = Client(base_url=url, timeout=30)
    typed = [path for path in paths if path.startswith("/predict/")]
    for path in typed:
        answers_as_the_example_says(client, paths[path]["post"])
    assert len(typed) >= 14, typed
    is_typed(client)
    takes_two_inputs(client)
    tells_errors(client)
    speaks_open_inference(client)
    speaks_version_1(client)
    describes_models(client)
    tells_statistics(client)
    lists_the_repository(client)


def answers_as_the_example_says(client: Client, operation: dict) -> None:
    """Every typed operation, by the module and the class that its names became."""
    name = operation["operationId"].replace("-", "_").replace(".", "_")
    module = import_module(f"maas_sdk.api.predict.{name}")
    request = module.__dict__[class_of(operation["requestBody"])]
    sent = request.from_dict(example_of(operation["requestBody"]))
    answer = module.sync(client=client, body=sent)
    assert type(answer).__name__ == class_of(operation["responses"]["200"]), answer
    agree(answer.to_dict(), example_of(operation["responses"]["200"]))


def class_of(holder: dict) -> str:
    """`digits-cnn.1.Request` is `DigitsCnn1Request`."""
    reference = holder["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return "".join(word[0].upper() + word[1:] for word in reference.replace("-", ".").split("."))


def example_of(holder: dict) -> dict:
    return holder["content"]["application/json"]["example"]


def agree(answer: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert answer.keys() == expected.keys()
        for name in expected:
            agree(answer[name], expected[name])
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for one, other in zip(answer, expected, strict=True):
            agree(one, other)
    elif isinstance(expected, float):
        assert math.isclose(answer, expected, rel_tol=1e-4, abs_tol=1e-6), (answer, expected)
    else:
        assert answer == expected


def is_typed(client: Client) -> None:
    """Fields have the tensors' names, a batch goes in and comes out, and the terms of a request are arguments."""
    answer = predict_longley.sync_detailed(
        client=client,
        body=Longley1Request(features=[ROW, ROW]),
        x_request_timeout=5.0,
        x_request_priority=Priority.INTERACTIVE,
        x_request_id="generated",
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "generated"
    agree(answer.parsed.employment, [EMPLOYMENT] * 2)


def takes_two_inputs(client: Client) -> None:
    request = AddSub1Request(a=[[1, 2, 3, 4]], b=[[4, 3, 2, 1]])
    answer = predict_add_sub.sync(client=client, body=request)
    assert isinstance(answer, AddSub1Response)
    assert (answer.sum_, answer.difference) == ([[5, 5, 5, 5]], [[-3, -1, 1, 3]])


def tells_errors(client: Client) -> None:
    """An error is an object of its own dialect's type, with the server's sentence and, where it has a place, code."""
    request = predict_digits_cnn.DigitsCnn1Request(image=[[1.0]])
    told = predict_digits_cnn.sync(client=client, body=request)
    assert isinstance(told, PredictError)
    assert told.code == "invalid_request"
    assert "image" in told.error
    missing = get_model.sync("nobody", client=client)
    assert isinstance(missing, PredictError)
    assert missing.code == "model_not_found"
    unlisted = get_v1_model.sync("nobody", client=client)
    assert isinstance(unlisted, OpenAIError)
    assert unlisted.error.code == "model_not_found"


def speaks_open_inference(client: Client) -> None:
    tensor = InferTensor(name="features", shape=[1, 6], datatype=Datatype.FP64, data=ROW)
    request = InferRequest(
        inputs=[tensor],
        id="one",
        outputs=[RequestedOutput(name="employment")],
        parameters=InferParameters(timeout=5_000_000, priority=1),
    )
    answer = infer.sync("longley", client=client, body=request)
    assert isinstance(answer, InferResponse)
    assert (answer.id, answer.outputs[0].name, answer.outputs[0].shape) == ("one", "employment", [1])
    agree(answer.outputs[0].data, [EMPLOYMENT])
    told = infer.sync("longley", client=client, body=InferRequest(inputs=[]))
    assert isinstance(told, InferError)
    assert "features" in told.error


def speaks_version_1(client: Client) -> None:
    rows = v1_predict.sync("longley", client=client, body=V1Instances(instances=[ROW, ROW]))
    columns = v1_predict.sync("longley", client=client, body=V1Inputs(inputs=[ROW, ROW]))
    assert isinstance(rows, V1Response)
    assert isinstance(columns, V1Response)
    agree(rows.predictions, [EMPLOYMENT] * 2)
    agree(columns.outputs, [EMPLOYMENT] * 2)
    told = v1_predict.sync("longley", client=client, body=V1Instances(instances=[[1.0]]))
    assert isinstance(told, V1Error)
    assert "features" in told.error


def describes_models(client: Client) -> None:
    catalogue = list_models.sync(client=client)
    assert isinstance(catalogue, Catalogue)
    states = {entry.name: entry.state for entry in catalogue.models}
    assert states["longley"] is states["digits-cnn"] is VersionState.READY
    model = get_model.sync("longley", client=client)
    assert isinstance(model, ModelDescription)
    assert (model.inputs[0].name, model.inputs[0].shape) == ("features", ["batch", 6])
    assert model.card.additional_properties
    metadata = model_metadata.sync("longley", client=client)
    assert isinstance(metadata, ModelMetadata)
    assert (metadata.inputs[0].datatype, metadata.inputs[0].shape) == (Datatype.FP64, [-1, 6])
    configuration = config.sync("longley", client=client)
    assert isinstance(configuration, ModelConfig)
    assert configuration.max_batch_size > 0
    assert configuration.input_[0].dims == [6]
    listed = list_v1_models.sync(client=client)
    assert {card.id for card in listed.data} == set(listed.models) == set(states)
    one = get_v1_model.sync("longley", client=client)
    assert isinstance(one, ListedModelState)
    assert one.ready


def tells_statistics(client: Client) -> None:
    before = statistics.sync("longley", client=client)
    predict_longley.sync(client=client, body=Longley1Request(features=ROW))
    after = statistics.sync("longley", client=client)
    assert isinstance(after, ModelStatisticsList)
    first, second = before.model_stats[0], after.model_stats[0]
    assert second.inference_count == first.inference_count + 1
    assert second.inference_stats.success.count == first.inference_stats.success.count + 1
    assert second.inference_stats.compute_infer.ns > first.inference_stats.compute_infer.ns
    assert second.batch_stats[0].compute_infer.count >= 1


def lists_the_repository(client: Client) -> None:
    entries = index.sync(client=client, body=RepositoryIndexRequest(ready=True))
    assert {entry.name for entry in entries} >= {"longley", "add-sub"}
    assert {entry.state for entry in entries} == {RepositoryState.READY}
    assert isinstance(ready.sync(client=client), ServerReady)
    metadata = server.sync(client=client)
    assert isinstance(metadata, ServerMetadata)
    assert "binary_tensor_data" in metadata.extensions


if __name__ == "__main__":
    main(*sys.argv[1:])
