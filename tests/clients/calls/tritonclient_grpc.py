"""`tritonclient.grpc`: raw contents both ways, callbacks, and a stream."""

from __future__ import annotations

import queue
import threading
import time

import ml_dtypes
import numpy as np
import tritonclient.grpc as client
from tests.clients.arrays import with_bfloat16
from tests.clients.call import Addresses
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def _connect(addresses: Addresses) -> client.InferenceServerClient:
    return client.InferenceServerClient(addresses.grpc)


def _input(name: str, array: np.ndarray) -> client.InferInput:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _one(value: float) -> list[client.InferInput]:
    return [_input("x", np.full((1, 1), value, np.float32))]


def _pair() -> tuple[np.ndarray, np.ndarray, list[client.InferInput]]:
    a = np.arange(8, dtype=np.float32).reshape(2, 4)
    b = np.full((2, 4), 0.5, np.float32)
    return a, b, [_input("a", a), _input("b", b)]


def _expect(status: str, text: str, call: object, *arguments: object, **options: object) -> None:
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        _check(error, status, text)
    else:
        raise AssertionError(f"{call} was not refused")


def _check(error: InferenceServerException, status: str, text: str) -> None:
    assert error.status() == f"StatusCode.{status}", error
    assert text in error.message(), error


def _until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_live_ready_and_described(addresses: Addresses) -> None:
    """Health and metadata of the server and of models."""
    with _connect(addresses) as server:
        assert server.is_server_live()
        assert server.is_server_ready()
        assert server.is_model_ready("add_sub")
        assert server.is_model_ready("versioned", "1")
        assert server.get_server_metadata().name == "maas"
        (tensor,) = server.get_model_metadata("reverse").inputs
        assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("ids", "INT64", [-1, -1])
        assert sorted(server.get_model_metadata("versioned").versions) == ["1", "2"]
        _expect("NOT_FOUND", "nothing", server.get_model_metadata, "nothing")


def reads_config_and_true_statistics(addresses: Addresses) -> None:
    """What is served beyond the standard; counts grow by what was asked."""
    with _connect(addresses) as server:
        config = server.get_model_config("add_sub").config
        assert config.max_batch_size == 32
        assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("a", [4]), ("b", [4])]
        (before,) = server.get_inference_statistics("failing", "1").model_stats
        server.infer("failing", _one(1))
        _expect("INTERNAL", "", server.infer, "failing", _one(-1))
        (after,) = server.get_inference_statistics("failing", "1").model_stats
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1
    assert after.inference_stats.fail.count == before.inference_stats.fail.count + 1
    assert after.inference_count == before.inference_count + 1


def infers_every_datatype(addresses: Addresses) -> None:
    """What goes in comes out, bit by bit."""
    with _connect(addresses) as server:
        for name, array in with_bfloat16().items():
            got = server.infer(f"identity_{name}", [_input("x", array)]).as_numpy("y")
            assert got.dtype == array.dtype, name
            np.testing.assert_array_equal(got, array, name)


def infers_bfloat16_where_float32_is_taken(addresses: Addresses) -> None:
    """BF16 for a model of FP32, which answers as it is."""
    x = np.array([[1.5, -2.0, 3e38]], ml_dtypes.bfloat16)
    with _connect(addresses) as server:
        got = server.infer("identity_float32", [_input("x", x)]).as_numpy("y")
        np.testing.assert_array_equal(got, x.astype(np.float32))
        _expect("INVALID_ARGUMENT", "BF16", server.infer, "identity_float64", [_input("x", x)])


def infers_strings(addresses: Addresses) -> None:
    """BYTES as texts and as any bytes; lengths beside them."""
    with _connect(addresses) as server:
        for words in (["one", "zwölf"], [b"\x00\xff", b""]):
            result = server.infer("upper", [_input("text", np.array([words], dtype=object))])
            raw = [word if isinstance(word, bytes) else word.encode() for word in words]
            assert result.as_numpy("upper").tolist() == [[word.upper() for word in raw]]
            assert result.as_numpy("length").tolist() == [[len(word) for word in raw]]


def infers_non_finite_numbers(addresses: Addresses) -> None:
    """NaN and infinities."""
    x = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    with _connect(addresses) as server:
        np.testing.assert_array_equal(server.infer("identity_float32", [_input("x", x)]).as_numpy("y"), x)


def names_a_version(addresses: Addresses) -> None:
    """The highest version unless one is named."""
    with _connect(addresses) as server:
        for asked, answered in (("", "2"), ("1", "1"), ("2", "2")):
            response = server.infer("versioned", _one(1), model_version=asked).get_response()
            assert response.model_version == answered


def sends_parameters(addresses: Addresses) -> None:
    """Priority, and parameters of the user's own that no model reads."""
    a, b, inputs = _pair()
    with _connect(addresses) as server:
        for priority in (0, 1, 2, 3):
            mine = {"mine": "x", "n": 1, "f": True}
            result = server.infer("add_sub", inputs, priority=priority, parameters=mine)
            np.testing.assert_array_equal(result.as_numpy("sum"), a + b)


def infers_two_outputs_and_a_chosen_one(addresses: Addresses) -> None:
    """All outputs unless some are asked for; the id and the version come back."""
    a, b, inputs = _pair()
    with _connect(addresses) as server:
        result = server.infer("add_sub", inputs, request_id="mine")
        np.testing.assert_array_equal(result.as_numpy("sum"), a + b)
        np.testing.assert_array_equal(result.as_numpy("difference"), a - b)
        assert (result.get_response().id, result.get_response().model_version) == ("mine", "1")
        outputs = [client.InferRequestedOutput("difference")]
        result = server.infer("add_sub", inputs, outputs=outputs)
        assert [tensor.name for tensor in result.get_response().outputs] == ["difference"]
        np.testing.assert_array_equal(result.as_numpy("difference"), a - b)


def compresses_both_ways(addresses: Addresses) -> None:
    """gzip and deflate."""
    a, b, inputs = _pair()
    with _connect(addresses) as server:
        for algorithm in ("gzip", "deflate"):
            result = server.infer("add_sub", inputs, compression_algorithm=algorithm)
            np.testing.assert_array_equal(result.as_numpy("sum"), a + b)


def sends_more_than_four_megabytes(addresses: Addresses) -> None:
    """More than gRPC takes unless told otherwise."""
    ids = np.arange(1 << 20, dtype=np.int64).reshape(1, -1)
    with _connect(addresses) as server:
        got = server.infer("reverse", [_input("ids", ids)]).as_numpy("reversed")
    np.testing.assert_array_equal(got, ids[:, ::-1])


def infers_asynchronously(addresses: Addresses) -> None:
    """Forty calls at once with callbacks; each gets its own rows."""
    answers: queue.Queue = queue.Queue()
    with _connect(addresses) as server:
        for number in range(40):
            server.async_infer(
                "identity_int64",
                [_input("x", np.full((1, 3), number, np.int64))],
                lambda result, error, number=number: answers.put((number, result, error)),
            )
        for _ in range(40):
            number, result, error = answers.get(timeout=20)
            assert error is None, error
            assert result.as_numpy("y").tolist() == [[number] * 3]


def is_told_of_its_deadline_and_cancels(addresses: Addresses) -> None:
    """A deadline is kept, a cancelled call ends, and others are answered."""
    with _connect(addresses) as server:
        started = time.monotonic()
        _expect("DEADLINE_EXCEEDED", "", server.infer, "slow", _one(1500), client_timeout=0.2)
        assert time.monotonic() - started < 1.4
        _expect("DEADLINE_EXCEEDED", "", server.infer, "slow", _one(1500), timeout=100_000)
        ended: queue.Queue = queue.Queue()
        call = server.async_infer("slow", _one(1500), lambda result, error: ended.put(error))
        time.sleep(0.1)
        call.cancel()
        assert ended.get(timeout=5).status() == "StatusCode.CANCELLED"
        assert server.infer("slow", _one(1)).as_numpy("y").tolist() == [[1]]


def streams(addresses: Addresses) -> None:
    """Each request of a stream is answered; one that fails says so, and the stream goes on."""
    answers: queue.Queue = queue.Queue()
    with _connect(addresses) as server:
        server.start_stream(lambda result, error: answers.put((result, error)))
        for value, name in ((1, "first"), (-1, "bad"), (2, "last")):
            server.async_stream_infer("failing", _one(value), request_id=name)
        got = [answers.get(timeout=20) for _ in range(3)]
        server.stop_stream()
    good = {result.get_response().id: result.as_numpy("y").tolist() for result, error in got if error is None}
    assert good == {"first": [[1]], "last": [[2]]}
    (error,) = (error for _, error in got if error is not None)
    assert error.message()


def streams_with_final_markers(addresses: Addresses) -> None:
    """Who asks for it is told which response is the last of its request."""
    answers: queue.Queue = queue.Queue()
    with _connect(addresses) as server:
        server.start_stream(lambda result, error: answers.put((result, error)))
        server.async_stream_infer("failing", _one(1), request_id="only", enable_empty_final_response=True)
        result, error = answers.get(timeout=20)
        assert error is None, error
        assert result.get_response().parameters["triton_final_response"].bool_param
        server.stop_stream()


def cancels_a_stream(addresses: Addresses) -> None:
    """A stream that is cancelled ends at once, whatever is under way."""
    ended = threading.Event()
    with _connect(addresses) as server:
        server.start_stream(lambda result, error: ended.set() if error is not None else None)
        server.async_stream_infer("slow", _one(2000))
        time.sleep(0.1)
        server.stop_stream(cancel_requests=True)
        assert ended.wait(5)
        assert server.is_server_live()


def reads_errors(addresses: Addresses) -> None:
    """Codes and sentences."""
    a, _, inputs = _pair()
    with _connect(addresses) as server:
        _expect("NOT_FOUND", "nothing", server.infer, "nothing", inputs)
        _expect("NOT_FOUND", "7", server.infer, "versioned", _one(1), model_version="7")
        _expect("INVALID_ARGUMENT", "b", server.infer, "add_sub", inputs[:1])
        wrong = [_input("a", a.astype(np.int32)), inputs[1]]
        _expect("INVALID_ARGUMENT", "datatype", server.infer, "add_sub", wrong)
        outputs = [client.InferRequestedOutput("product")]
        _expect("INVALID_ARGUMENT", "product", server.infer, "add_sub", inputs, outputs=outputs)
        _expect("INVALID_ARGUMENT", "priority", server.infer, "add_sub", inputs, priority=4)
        _expect("INTERNAL", "", server.infer, "failing", _one(-1))


def controls_the_repository(addresses: Addresses) -> None:
    """Index, unload, load: the model goes and comes back."""
    with _connect(addresses) as server:

        def is_ready(name: str) -> bool:
            models = server.get_model_repository_index().models
            return "READY" in {model.state for model in models if model.name == name}

        assert is_ready("add_sub")
        server.unload_model("spare")
        _until(lambda: not is_ready("spare"))
        server.load_model("spare")
        _until(lambda: is_ready("spare"))
        assert server.infer("spare", _one(1)).as_numpy("y").tolist() == [[1]]
        _expect("NOT_FOUND", "nothing", server.load_model, "nothing")


def is_told_what_is_not_served(addresses: Addresses) -> None:
    """Shared memory, trace and log settings."""
    with _connect(addresses) as server:
        _expect("UNIMPLEMENTED", "", server.get_system_shared_memory_status)
        _expect("UNIMPLEMENTED", "", server.get_cuda_shared_memory_status)
        _expect("UNIMPLEMENTED", "", server.get_trace_settings)
        _expect("UNIMPLEMENTED", "", server.get_log_settings)
