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
from maas_sdk.api.models import get_model, list_models
from maas_sdk.api.open_inference_protocol import infer
from maas_sdk.api.predict import predict_digits_cnn, predict_longley
from maas_sdk.models import (
    InferError,
    InferRequest,
    InferResponse,
    Longley1Request,
    PredictError,
    Priority,
)


def main(document: str, url: str) -> None:
    paths = json.loads(Path(document).read_text())["paths"]
    client = Client(base_url=url, timeout=30)
    typed = [path for path in paths if path.startswith("/predict/")]
    for path in typed:
        answers_as_the_example_says(client, paths[path]["post"])
    assert len(typed) >= 12, typed
    is_typed(client)
    tells_errors(client)
    speaks_open_inference(client)
    shows_models(client)


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
    row = [83.0, 234289, 2356, 1590, 107608, 1947]
    answer = predict_longley.sync_detailed(
        client=client,
        body=Longley1Request(features=[row, row]),
        x_request_timeout=5.0,
        x_request_priority=Priority.INTERACTIVE,
        x_request_id="generated",
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "generated"
    agree(answer.parsed.employment, [60055.65997024028] * 2)


def tells_errors(client: Client) -> None:
    """An error is an object of its own type, with the server's sentence and code."""
    request = predict_digits_cnn.DigitsCnn1Request(image=[[1.0]])
    told = predict_digits_cnn.sync(client=client, body=request)
    assert isinstance(told, PredictError)
    assert told.code == "invalid_request"
    assert "image" in told.error
    missing = get_model.sync("nobody", client=client)
    assert isinstance(missing, PredictError)
    assert missing.code == "model_not_found"


def speaks_open_inference(client: Client) -> None:
    row = [83.0, 234289, 2356, 1590, 107608, 1947]
    tensor = {"name": "features", "shape": [1, 6], "datatype": "FP64", "data": row}
    answer = infer.sync(
        "longley", client=client, body=InferRequest.from_dict({"id": "one", "inputs": [tensor]})
    )
    assert isinstance(answer, InferResponse)
    assert (answer.id, answer.outputs[0].name, answer.outputs[0].shape) == ("one", "employment", [1])
    agree(answer.outputs[0].data, [60055.65997024028])
    told = infer.sync("longley", client=client, body=InferRequest.from_dict({"inputs": []}))
    assert isinstance(told, InferError)


def shows_models(client: Client) -> None:
    names = {model["name"] for model in list_models.sync(client=client)["models"]}
    assert {"longley", "digits-cnn"} <= names


if __name__ == "__main__":
    main(*sys.argv[1:])
