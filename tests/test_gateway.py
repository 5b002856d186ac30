"""The gateway: the one path of a request, whatever the protocol it came by."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from tests.api.harness import Model, Service, in_loop, serving

from maas.errors import Draining, InvalidRequest, ModelFailed, ModelNotFound, ModelNotReady, QueueFull
from maas.gateway import Terms
from maas.models.live import VersionState


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((count, 2), np.float32)}


def is_idle(service: Service) -> bool:
    statistics = service.live().batcher.statistics()
    return (statistics.waiting, statistics.running) == (0, 0)


def now() -> Terms:
    """The usual terms of a request that arrives now."""
    return Terms(time.monotonic())


@in_loop
async def test_caller_gets_its_own_rows() -> None:
    """The answer has the caller's rows of every output, and says where the time went."""
    async with serving(Model(seconds=0.001)) as service:
        inputs = {"x": np.array([[1, 2], [3, 4]], np.float32)}
        answer = await service.gateway.infer(service.live(), inputs, now())
    np.testing.assert_array_equal(answer.outputs["y"], [[2, 4], [6, 8]])
    assert answer.timings.compute == 0.001
    assert answer.timings.queue >= 0
    assert answer.is_finite


@in_loop
async def test_rows_up_to_the_batch_are_accepted_and_no_more() -> None:
    """A request may have as many rows as a batch; one more is refused before it is queued, with both numbers."""
    async with serving(Model(max_batch_size=4)) as service:
        full = await service.gateway.infer(service.live(), rows(4), now())
        with pytest.raises(InvalidRequest, match=r"has 5 rows; model 'double/1' accepts 4"):
            await service.gateway.infer(service.live(), rows(5), now())
        assert is_idle(service)
    assert full.outputs["y"].shape == (4, 2)


@in_loop
async def test_configuration_can_only_lower_the_batch() -> None:
    """`max_batch_size` of the configuration counts where it is stricter than the manifest's."""
    for configured, accepted in (2, 2), (100, 4):
        options = {"models": {"double": {"max_batch_size": configured}}}
        async with serving(Model(max_batch_size=4), configuration=options) as service:
            await service.gateway.infer(service.live(), rows(accepted), now())
            with pytest.raises(InvalidRequest, match=f"accepts {accepted}"):
                await service.gateway.infer(service.live(), rows(accepted + 1), now())


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"z": np.ones((1, 2), np.float32)},
        {"x": np.ones((1, 2), np.float64)},
        {"x": np.ones((1, 3), np.float32)},
        {"x": np.ones(2, np.float32)},
        {"x": np.ones((0, 2), np.float32)},
    ],
)
@in_loop
async def test_inputs_that_are_not_declared_are_refused(inputs: dict[str, np.ndarray]) -> None:
    """Arrays are held against the signature here, whichever dialect made them."""
    async with serving() as service:
        with pytest.raises(InvalidRequest):
            await service.gateway.infer(service.live(), inputs, now())
        assert service.instances["double/1"].batches == []


@in_loop
async def test_cancelled_caller_leaves_the_queue() -> None:
    """A caller that leaves while it waits is never run; its neighbours are answered, and nothing is left behind."""
    async with serving(Model(seconds=0.01, max_batch_size=1)) as service:
        calls = [
            asyncio.ensure_future(service.gateway.infer(service.live(), rows(1), now())) for _ in range(4)
        ]
        await service.until_waiting(3)
        calls[1].cancel()
        calls[2].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert is_idle(service)
        assert len(service.instances["double/1"].batches) == 2
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [False, True, True, False]


@in_loop
async def test_cancelled_caller_of_a_running_batch_drops_its_rows_only() -> None:
    """A caller that leaves while its batch runs gets nothing; the others of the batch get their answers."""
    async with serving(Model(seconds=0.01)) as service:
        first = asyncio.ensure_future(service.gateway.infer(service.live(), rows(1), now()))
        await service.until_running(1)
        pair = [
            asyncio.ensure_future(service.gateway.infer(service.live(), rows(1), now())) for _ in range(2)
        ]
        await first
        await service.until_running(2)
        pair[0].cancel()
        outcomes = await asyncio.gather(*pair, return_exceptions=True)
        await asyncio.sleep(0)  # the batch's own task ends after its callers are answered
        assert is_idle(service)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1].outputs["y"].shape == (1, 2)


@in_loop
async def test_failure_of_a_batch_is_every_callers_own() -> None:
    """What the model raises reaches each caller of the batch, and the queue is empty afterwards."""
    async with serving(Model(fail_with=ModelFailed("no"))) as service:
        calls = (service.gateway.infer(service.live(), rows(1), now()) for _ in range(3))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0)
        assert is_idle(service)
    assert [type(outcome) for outcome in outcomes] == [ModelFailed] * 3


@in_loop
async def test_full_queue_refuses_without_a_trace() -> None:
    """A refused request is not queued, and leaves nothing that would have to be abandoned."""
    options = {"models": {"double": {"queue_size": 1}}}
    async with serving(Model(seconds=3600), configuration=options) as service:
        hanging = [asyncio.ensure_future(service.gateway.infer(service.live(), rows(1), now()))]
        await service.until_running(1)
        hanging.append(asyncio.ensure_future(service.gateway.infer(service.live(), rows(1), now())))
        await service.until_waiting(1)
        with pytest.raises(QueueFull):
            await service.gateway.infer(service.live(), rows(1), now())
        assert service.live().batcher.statistics().waiting == 1
        for call in hanging:
            call.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert service.live().batcher.statistics().waiting == 0


# ── which version, and whether it may be asked ───────────────────────────────────────────────────────────────────


@in_loop
async def test_names_mean_versions() -> None:
    """A name alone means the highest version, or the configured one; what is not served is not found."""
    served = [Model(version=version) for version in ("1", "2", "10", "beta")]
    async with serving(*served) as service:
        assert service.gateway.resolve("double").version == "10"
        assert service.gateway.resolve("double", "beta").version == "beta"
        for name, version in ("double", "3"), ("Double", None), ("nobody", None), ("nobody", "1"):
            with pytest.raises(ModelNotFound):
                service.gateway.resolve(name, version)
    async with serving(*served, configuration={"models": {"double": {"default": "2"}}}) as service:
        assert service.gateway.resolve("double").version == "2"


@pytest.mark.parametrize("state", [state for state in VersionState if state is not VersionState.READY])
@in_loop
async def test_only_ready_versions_are_admitted(state: VersionState) -> None:
    """A version that loads, failed or drains is not asked; the reason is said."""
    async with serving(Model(state=state, reason="of something")) as service:
        with pytest.raises(ModelNotReady, match=r"'double/1' is not ready: of something"):
            service.gateway.admit(service.live())


@in_loop
async def test_draining_gateway_admits_nothing() -> None:
    """While the server drains no version is asked, however ready it is."""
    async with serving() as service:
        service.gateway.admit(service.live())
        service.gateway.is_draining = True
        with pytest.raises(Draining):
            service.gateway.admit(service.live())


@in_loop
async def test_readiness_follows_the_versions() -> None:
    """Not ready while a version loads; ready as soon as all have loaded or failed and one is ready; not while draining."""
    async with serving(Model(name="a", state="loading"), Model(name="b", state="loading")) as service:
        a, b = service.live("a"), service.live("b")
        gateway = service.gateway
        assert gateway.readiness().reason == "the server is starting"
        a.state = VersionState.READY
        assert gateway.readiness().reason == "the server is starting"
        b.state, b.reason = VersionState.FAILED, "golden sample 0 is off"
        assert gateway.readiness().is_ready
        assert gateway.readiness().failed == {"b/1": "golden sample 0 is off"}
        a.state = VersionState.DRAINING
        assert gateway.readiness().reason == "no model is ready"
        a.state = VersionState.READY
        gateway.is_draining = True
        assert not gateway.readiness().is_ready
        assert gateway.readiness().reason == "the server is shutting down"


@in_loop
async def test_unreadable_versions_are_named_as_failed() -> None:
    """A version whose manifest cannot be read is named with the reason, and does not keep the others from being ready."""
    async with serving(Model(), Model(name="torn", broken="model.yaml is no YAML")) as service:
        readiness = service.gateway.readiness()
    assert readiness.is_ready
    assert readiness.failed == {"torn/1": "model.yaml is no YAML"}


@in_loop
async def test_server_without_models_is_not_ready() -> None:
    """Where nothing can be served the server is not ready."""
    async with serving(Model(broken="torn")) as service:
        assert service.gateway.readiness().reason == "no model is ready"
