"""gRPC calls that end otherwise than answered, and what stands beside an answer."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from tests.api.grpc_harness import GrpcService, floats, rows, serving_grpc, tensor, until
from tests.api.harness import Model, in_loop, recorded_logs

from maas.api.grpc.messages import ModelInferRequest
from maas.errors import ModelFailed, OutOfMemory

SLOW = Model(seconds=30.0, max_batch_size=1)


def outcomes(service: GrpcService, model: str = "double") -> dict[str, float]:
    """Requests of the model by their outcome, as the metrics have them."""
    text = service.service.metrics.expose().decode()
    lines = [line for line in text.splitlines() if line.startswith(f'maas_requests_total{{model="{model}"')]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


@in_loop
async def test_answer_says_in_its_metadata_what_http_says_in_headers() -> None:
    """The request's own id, the version that answered and the time that it took."""
    async with serving_grpc() as service:
        call = service.infer(rows([1, 2]), metadata=(("x-request-id", "mine-1"),))
        await call
        metadata = dict(await call.trailing_metadata())
        assert metadata["x-request-id"] == "mine-1"
        assert metadata["x-model-version"] == "double/1"
        assert metadata["x-model-digest"] == service.service.live().digest
        assert "total;dur=" in metadata["server-timing"]
        assert outcomes(service) == {"ok": 1}


@in_loop
async def test_deadline_takes_the_request_off_the_queue() -> None:
    """A caller's deadline is the request's: it does not wait in the queue any longer than its caller."""
    async with serving_grpc(SLOW) as service:
        running = service.infer(rows([1, 2]))
        await until(lambda: service.running == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([3, 4]), timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: service.waiting == 0)
        running.cancel()


@in_loop
async def test_metadata_may_ask_for_less_time_than_the_call_has() -> None:
    """`x-request-timeout` ends the wait as it does for HTTP, with the error that the table has for it."""
    async with serving_grpc(SLOW) as service:
        running = service.infer(rows([1, 2]))
        await until(lambda: service.running == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([3, 4]), metadata=(("x-request-timeout", "0.05"),))
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "deadline_exceeded"
        running.cancel()


@in_loop
async def test_cancelled_call_leaves_the_queue() -> None:
    """Who cancels is no longer waited for, and is counted as one who left."""
    async with serving_grpc(SLOW) as service:
        running = service.infer(rows([1, 2]))
        await until(lambda: service.running == 1)
        waiting = service.infer(rows([3, 4]))
        await until(lambda: service.waiting == 1)
        waiting.cancel()
        await until(lambda: service.waiting == 0)
        await until(lambda: outcomes(service).get("cancelled") == 1)
        running.cancel()


@in_loop
async def test_full_queue_refuses_and_says_when_to_return() -> None:
    """`UNAVAILABLE`, which clients may try again, with the seconds after which it is worth it."""
    full = {"models": {"double": {"queue_size": 1}}}
    async with serving_grpc(SLOW, configuration=full) as service:
        kept = [service.infer(rows([1, 2]))]
        await until(lambda: service.running == 1)
        kept.append(service.infer(rows([1, 2])))
        await until(lambda: service.waiting == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([1, 2]))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        metadata = dict(caught.value.trailing_metadata())
        assert metadata["x-error-code"] == "queue_full"
        assert int(metadata["retry-after"]) >= 1
        for call in kept:
            call.cancel()


@in_loop
async def test_server_that_is_full_or_drains_takes_nothing() -> None:
    """Over the most requests that the server holds, and once it drains, a call is refused before it is read."""
    async with serving_grpc(SLOW, most_requests=1) as service:
        kept = service.infer(rows([1, 2]))
        await until(lambda: service.running == 1)
        with pytest.raises(grpc.aio.AioRpcError, match="it takes 1") as caught:
            await service.infer(rows([1, 2]))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        service.service.gateway.is_draining = True
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down") as caught:
            await service.infer(rows([1, 2]))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        kept.cancel()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelFailed("it raised"), grpc.StatusCode.INTERNAL),
        (OutOfMemory("one row does not fit"), grpc.StatusCode.INTERNAL),
        (ValueError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
@in_loop
async def test_failure_has_the_code_of_the_table(error: Exception, code: grpc.StatusCode) -> None:
    """Errors of our tree are said; of a bug nothing but that there is one."""
    async with serving_grpc(Model(fail_with=error)) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([1, 2]))
        assert caught.value.code() == code
        assert "secret" not in caught.value.details()


def test_failure_is_logged_with_its_request_id() -> None:
    """As one that came by HTTP: the line has the id that the caller was told."""

    @in_loop
    async def fail() -> None:
        async with serving_grpc() as service:
            with pytest.raises(grpc.aio.AioRpcError):
                await service.infer(rows([1, 2, 3]), metadata=(("x-request-id", "mine-2"),))

    with recorded_logs() as lines:
        fail()
    [line] = [line for line in lines if line["event"] == "request_failed"]
    assert (line["request_id"], line["model"]) == ("mine-2", "double/1")


@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "typed"])
@in_loop
async def test_message_far_over_four_mebibytes(is_raw: bool) -> None:
    """gRPC's own limit is not ours: a tensor of 16 MiB comes and goes."""
    declaration = "float32[batch, 4194304]"
    model = Model(
        inputs={"x": declaration},
        outputs={"y": declaration},
        function=lambda x: {"y": x["x"]},
        max_batch_size=1,
    )
    x = np.arange(1 << 22, dtype=np.float32)
    contents = {} if is_raw else {"fp32_contents": x}
    request = ModelInferRequest(
        model_name="double",
        inputs=[tensor("x", "FP32", [1, x.size], **contents)],
        raw_input_contents=[x.tobytes()] if is_raw else [],
    )
    async with serving_grpc(model) as service:
        answer = await service.infer(request)
        assert answer.raw_output_contents[0] == x.tobytes()
        assert service.service.backlog.nbytes == 0


@in_loop
async def test_message_over_the_models_limit_is_refused() -> None:
    """What no request of the model can need is not looked into."""
    request = rows([1, 2], id="x" * (1 << 20))
    async with serving_grpc() as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(request)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@in_loop
async def test_message_over_the_bodys_limit_is_not_read() -> None:
    """gRPC itself ends the call, and the server goes on."""
    configuration = {"limits": {"body_bytes": 1 << 20}}
    async with serving_grpc(configuration=configuration) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.infer(rows([1, 2], id="x" * (3 << 20)))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert floats(await service.infer(rows([1, 2]))) == [[2, 4]]


@in_loop
async def test_lower_limit_of_bodies_holds_from_when_it_is_set() -> None:
    """As a reload sets it; a message that was taken before is refused then."""
    request = rows([1, 2], id="x" * 3000)
    async with serving_grpc() as service:
        assert floats(await service.infer(request)) == [[2, 4]]
        service.service.live().limit_bodies(2048)
        with pytest.raises(grpc.aio.AioRpcError, match="2048") as caught:
            await service.infer(request)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
