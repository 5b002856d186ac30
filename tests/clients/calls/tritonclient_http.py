"""`tritonclient.http`: it sends no Content-Type and asks for binary tensors unless told otherwise."""

from __future__ import annotations

import time

import ml_dtypes
import numpy as np
import tritonclient.http as client
from tests.clients.arrays import ARRAYS, as_text, with_bfloat16
from tests.clients.call import Addresses
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def _connect(addresses: Addresses, **options: float) -> client.InferenceServerClient:
    return client.InferenceServerClient(addresses.http, **options)


def _input(name: str, array: np.ndarray, binary: bool = True) -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _pair(binary: bool = True) -> tuple[np.ndarray, np.ndarray, list[client.InferInput]]:
    a = np.arange(8, dtype=np.float32).reshape(2, 4)
    b = np.full((2, 4), 0.5, np.float32)
    return a, b, [_input("a", a, binary), _input("b", b, binary)]


def _check(error: InferenceServerException, status: str, text: str) -> None:
    assert error.status() == status, error
    assert text in error.message(), error


def _expect(status: str, text: str, call: object, *arguments: object, **options: object) -> None:
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        _check(error, status, text)
    else:
        raise AssertionError(f"{call} was not refused")


def is_live_and_ready(addresses: Addresses) -> None:
    """The server, a model, a version; a model that is not there is not ready."""
    with _connect(addresses) as server:
        assert server.is_server_live()
        assert server.is_server_ready()
        assert server.is_model_ready("add_sub")
        assert server.is_model_ready("versioned", "1")
        assert not server.is_model_ready("nothing")


def reads_server_metadata(addresses: Addresses) -> None:
    """The extensions that it names are those it serves."""
    with _connect(addresses) as server:
        metadata = server.get_server_metadata()
    assert metadata["name"] == "maas"
    assert "binary_tensor_data" in metadata["extensions"]
    assert not {"system_shared_memory", "cuda_shared_memory", "trace", "logging"} & set(
        metadata["extensions"]
    )


def reads_model_metadata(addresses: Addresses) -> None:
    """Names, types, shapes with -1 where a dimension varies, versions as strings."""
    with _connect(addresses) as server:
        metadata = server.get_model_metadata("reverse")
        assert metadata["inputs"] == [{"name": "ids", "datatype": "INT64", "shape": [-1, -1]}]
        assert metadata["outputs"] == [{"name": "reversed", "datatype": "INT64", "shape": [-1, -1]}]
        assert sorted(server.get_model_metadata("versioned")["versions"]) == ["1", "2"]
        _expect("404", "nothing", server.get_model_metadata, "nothing")


def reads_model_config(addresses: Addresses) -> None:
    """What generators of load and data need: the batch size, and tensors without the batch dimension."""
    with _connect(addresses) as server:
        config = server.get_model_config("add_sub")
    assert config["name"] == "add_sub"
    assert config["max_batch_size"] == 32
    assert [(tensor["name"], tensor["data_type"]) for tensor in config["input"]] == [
        ("a", "TYPE_FP32"),
        ("b", "TYPE_FP32"),
    ]
    assert [list(map(int, tensor["dims"])) for tensor in config["output"]] == [[4], [4]]
    assert "version_policy" in config


def reads_true_statistics(addresses: Addresses) -> None:
    """Successes, failures and executions grow by what was asked, and the parts of their time are no more than all of it."""
    with _connect(addresses) as server:

        def counted() -> dict:
            (entry,) = server.get_inference_statistics("failing", "1")["model_stats"]
            return entry

        before = counted()
        for _ in range(3):
            server.infer("failing", [_input("x", np.ones((2, 1), np.float32))])
        _expect("500", "", server.infer, "failing", [_input("x", -np.ones((1, 1), np.float32))])
        after = counted()
        every = server.get_inference_statistics()["model_stats"]
    grown = {
        key: int(after["inference_stats"][key]["count"]) - int(before["inference_stats"][key]["count"])
        for key in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    }
    assert grown["success"] == 3, grown
    assert grown["fail"] == 1, grown
    assert int(after["inference_count"]) - int(before["inference_count"]) == 6
    assert int(after["inference_stats"]["success"]["ns"]) > int(before["inference_stats"]["success"]["ns"])
    assert any(int(batch["batch_size"]) == 2 for batch in after["batch_stats"])
    stats = after["inference_stats"]
    parts = [int(stats[part]["ns"]) for part in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert min(parts[1:]) > 0, parts
    assert sum(parts) <= int(stats["success"]["ns"]) + len(parts), stats  # of rounding
    assert {"add_sub", "failing"} <= {entry["name"] for entry in every}


def infers_every_datatype_binary(addresses: Addresses) -> None:
    """What goes in comes out, bit by bit."""
    with _connect(addresses) as server:
        for name, array in with_bfloat16().items():
            result = server.infer(f"identity_{name}", [_input("x", array)])
            got = result.as_numpy("y")
            assert got.dtype == array.dtype, name
            np.testing.assert_array_equal(got, array, name)


def infers_every_datatype_json(addresses: Addresses) -> None:
    """The same in JSON both ways, the extremes of 64-bit integers included; it has no JSON of FP16."""
    with _connect(addresses) as server:
        for name, array in ARRAYS.items():
            if name == "float16":
                continue
            outputs = [client.InferRequestedOutput("y", binary_data=False)]
            result = server.infer(f"identity_{name}", [_input("x", array, binary=False)], outputs=outputs)
            got = result.as_numpy("y")
            np.testing.assert_array_equal(got, as_text(array), name)


def reads_bfloat16_from_json(addresses: Addresses) -> None:
    """It sends BF16 as binary data alone, and reads it of JSON too."""
    x = with_bfloat16()["bfloat16"]
    with _connect(addresses) as server:
        outputs = [client.InferRequestedOutput("y", binary_data=False)]
        got = server.infer("identity_bfloat16", [_input("x", x)], outputs=outputs).as_numpy("y")
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got, x)


def infers_non_finite_numbers(addresses: Addresses) -> None:
    """NaN and infinities, binary and as bare literals of JSON."""
    x = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    with _connect(addresses) as server:
        for binary in (True, False):
            outputs = [client.InferRequestedOutput("y", binary_data=binary)]
            result = server.infer("identity_float32", [_input("x", x, binary)], outputs=outputs)
            np.testing.assert_array_equal(result.as_numpy("y"), x)


def infers_two_outputs_and_a_chosen_one(addresses: Addresses) -> None:
    """All outputs unless some are asked for; the id comes back."""
    a, b, inputs = _pair()
    with _connect(addresses) as server:
        result = server.infer("add_sub", inputs, request_id="mine")
        np.testing.assert_array_equal(result.as_numpy("sum"), a + b)
        np.testing.assert_array_equal(result.as_numpy("difference"), a - b)
        assert result.get_response()["id"] == "mine"
        assert result.get_response()["model_version"] == "1"
        outputs = [client.InferRequestedOutput("difference")]
        result = server.infer("add_sub", inputs, outputs=outputs)
        assert [tensor["name"] for tensor in result.get_response()["outputs"]] == ["difference"]


def mixes_binary_and_json(addresses: Addresses) -> None:
    """One input and one output of each form in a request."""
    a, b, _ = _pair()
    with _connect(addresses) as server:
        result = server.infer(
            "add_sub",
            [_input("a", a, binary=False), _input("b", b)],
            outputs=[
                client.InferRequestedOutput("sum"),
                client.InferRequestedOutput("difference", binary_data=False),
            ],
        )
    np.testing.assert_array_equal(result.as_numpy("sum"), a + b)
    np.testing.assert_array_equal(result.as_numpy("difference"), a - b)


def compresses_both_ways(addresses: Addresses) -> None:
    """gzip and deflate, of binary and JSON bodies; the answer really comes so."""
    ids = np.arange(5000, dtype=np.int64).reshape(1, -1)
    for binary in (True, False):
        outputs = [client.InferRequestedOutput("reversed", binary_data=binary)]
        with _connect(addresses) as server:
            codings = _codings_of_answers(server)
            for algorithm in ("gzip", "deflate"):
                result = server.infer(
                    "reverse",
                    [_input("ids", ids, binary)],
                    outputs=outputs,
                    request_compression_algorithm=algorithm,
                    response_compression_algorithm=algorithm,
                )
                np.testing.assert_array_equal(result.as_numpy("reversed"), ids[:, ::-1])
        assert codings == ["gzip", "deflate"], (binary, codings)


def _codings_of_answers(server: client.InferenceServerClient) -> list[str | None]:
    """Filled as answers come; the client itself does not say."""
    codings = []
    post = server._client_stub.post

    def recorded(*arguments: object, **options: object) -> object:
        response = post(*arguments, **options)
        codings.append(response.get("Content-Encoding"))
        return response

    server._client_stub.post = recorded
    return codings


def infers_bfloat16_where_float32_is_taken(addresses: Addresses) -> None:
    """BF16 for a model of FP32, which answers as it is."""
    x = np.array([[1.5, -2.0, 3e38]], ml_dtypes.bfloat16)
    with _connect(addresses) as server:
        result = server.infer("identity_float32", [_input("x", x)])
        np.testing.assert_array_equal(result.as_numpy("y"), x.astype(np.float32))
        _expect("400", "BF16", server.infer, "identity_float64", [_input("x", x)])


def infers_strings(addresses: Addresses) -> None:
    """BYTES as texts and as any bytes; lengths beside them."""
    with _connect(addresses) as server:
        for array in (
            np.array([["one", "zwölf"]], dtype=object),
            np.array([[b"\x00\xff", b""]], dtype=object),
        ):
            result = server.infer("upper", [_input("text", array)])
            raw = [element if isinstance(element, bytes) else element.encode() for element in array[0]]
            assert result.as_numpy("upper").tolist() == [[element.upper() for element in raw]]
            assert result.as_numpy("length").tolist() == [[len(element) for element in raw]]


def refuses_json_of_bytes_that_are_no_text(addresses: Addresses) -> None:
    """An answer that JSON cannot hold says how to ask for it."""
    array = np.array([[b"\xff\xfe", b"x"]], dtype=object)
    with _connect(addresses) as server:
        outputs = [client.InferRequestedOutput("upper", binary_data=False)]
        _expect("400", "binary_data", server.infer, "upper", [_input("text", array)], outputs=outputs)


def infers_sequences_of_any_length(addresses: Addresses) -> None:
    """A variable dimension, up to a megabyte of it."""
    with _connect(addresses) as server:
        for length in (1, 7, 130_000):
            ids = np.arange(length, dtype=np.int64).reshape(1, -1)
            result = server.infer("reverse", [_input("ids", ids)])
            np.testing.assert_array_equal(result.as_numpy("reversed"), ids[:, ::-1])


def names_a_version(addresses: Addresses) -> None:
    """The highest version unless one is named; one that is not there is not found."""
    inputs = [_input("x", np.ones((1, 1), np.float32))]
    with _connect(addresses) as server:
        assert server.infer("versioned", inputs).get_response()["model_version"] == "2"
        result = server.infer("versioned", inputs, model_version="1")
        assert result.get_response()["model_version"] == "1"
        _expect("404", "7", server.infer, "versioned", inputs, model_version="7")


def infers_asynchronously(addresses: Addresses) -> None:
    """Many calls at once over its pool of connections; each gets its own rows."""
    with _connect(addresses, concurrency=4) as server:
        arrays = [np.full((1, 3), number, np.int64) for number in range(40)]
        calls = [server.async_infer("identity_int64", [_input("x", array)]) for array in arrays]
        for call, array in zip(calls, arrays, strict=True):
            np.testing.assert_array_equal(call.get_result().as_numpy("y"), array)


def generates_and_parses_bodies(addresses: Addresses) -> None:
    """The static helpers that users send with a client of their own."""
    a, b, inputs = _pair()
    body, header_length = client.InferenceServerClient.generate_request_body(inputs)
    with _connect(addresses) as server:
        response = server._post(
            "v2/models/add_sub/infer",
            request_body=body,
            headers={"Inference-Header-Content-Length": str(header_length)},
            query_params=None,
        )
        assert response.status_code == 200, response.read()
        content = response.read()
        length = response.get("Inference-Header-Content-Length")
    result = client.InferenceServerClient.parse_response_body(
        content, header_length=int(length) if length else None
    )
    np.testing.assert_array_equal(result.as_numpy("sum"), a + b)


def sends_parameters(addresses: Addresses) -> None:
    """Priority, and parameters of the user's own that no model reads."""
    a, b, inputs = _pair()
    with _connect(addresses) as server:
        for priority in (0, 1, 2, 3):
            result = server.infer(
                "add_sub", inputs, priority=priority, parameters={"mine": "x", "n": 1, "f": True}
            )
            np.testing.assert_array_equal(result.as_numpy("sum"), a + b)
        _expect("400", "priority", server.infer, "add_sub", inputs, priority=4)


def is_told_of_its_timeout(addresses: Addresses) -> None:
    """The request's timeout, in microseconds, is answered when it is over, not when the model ends."""
    with _connect(addresses) as server:
        started = time.monotonic()
        inputs = [_input("x", np.full((1, 1), 2000, np.float32))]
        _expect("504", "", server.infer, "slow", inputs, timeout=100_000)
        assert time.monotonic() - started < 1.9


def leaves_when_its_own_timeout_is_over(addresses: Addresses) -> None:
    """A client that hangs up disturbs nobody."""
    inputs = [_input("x", np.full((1, 1), 1500, np.float32))]
    with _connect(addresses, network_timeout=0.2) as server:
        try:
            server.infer("slow", inputs)
        except (TimeoutError, InferenceServerException):
            pass
        else:
            raise AssertionError("the client did not time out")
    with _connect(addresses) as server:
        assert server.infer("slow", [_input("x", np.ones((1, 1), np.float32))]).as_numpy("y").tolist() == [
            [1.0]
        ]


def reads_errors(addresses: Addresses) -> None:
    """Status and sentence of what is wrong, each the caller's or the model's fault."""
    a, _, inputs = _pair()
    with _connect(addresses) as server:
        _expect("404", "nothing", server.infer, "nothing", inputs)
        _expect("400", "b", server.infer, "add_sub", inputs[:1])
        _expect("400", "datatype", server.infer, "add_sub", [_input("a", a.astype(np.int32)), inputs[1]])
        _expect("400", "a", server.infer, "add_sub", [_input("a", a[:, :3].copy()), inputs[1]])
        outputs = [client.InferRequestedOutput("product")]
        _expect("400", "product", server.infer, "add_sub", inputs, outputs=outputs)
        _expect("500", "", server.infer, "failing", [_input("x", -np.ones((1, 1), np.float32))])


def controls_the_repository(addresses: Addresses) -> None:
    """Index, unload, load: the model goes and comes back."""
    with _connect(addresses) as server:
        index = server.get_model_repository_index()
        assert {"add_sub", "spare"} <= {entry["name"] for entry in index}
        assert next(entry for entry in index if entry["name"] == "add_sub")["state"] == "READY"
        server.unload_model("spare")
        _until(lambda: not server.is_model_ready("spare"))
        server.load_model("spare")
        _until(lambda: server.is_model_ready("spare"))
        assert server.infer("spare", [_input("x", np.ones((1, 1), np.float32))]).as_numpy("y").tolist() == [
            [1]
        ]
        _expect("404", "nothing", server.load_model, "nothing")


def _until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_told_what_is_not_served(addresses: Addresses) -> None:
    """Shared memory, trace and log settings: not found, and the extension is named."""
    with _connect(addresses) as server:
        _expect("404", "shared_memory", server.get_system_shared_memory_status)
        _expect("404", "shared_memory", server.get_cuda_shared_memory_status)
        _expect("404", "shared_memory", server.register_system_shared_memory, "region", "/key", 64)
        _expect("404", "trace", server.get_trace_settings)
        _expect("404", "logging", server.get_log_settings)
