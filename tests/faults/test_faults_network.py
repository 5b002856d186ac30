"""A network that loses and delays: slow, but nobody hangs and nothing is left behind."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from tests.assets import worker_models
from tests.faults.load import Reply, closed_loop, for_seconds, predict
from tests.faults.lossy_link import THERE, lossy_link
from tests.test_server import Server, _wait_until, serving
from tests.versions import store

DELAY = 0.2  # seconds, one way
LOSS = 0.02
DEADLINE = 1.0
SLACK = 3.0  # seconds beyond: a round trip, and a lost packet that is sent again


def test_lossy_link_slows_requests_down_and_hangs_none(tmp_path: Path) -> None:
    """2 % loss and 200 ms each way: every request is answered in the end, and at its deadline where the model is late."""
    store(tmp_path / "models", name="double")
    store(tmp_path / "models", worker_models.Slow, name="slow", max_batch_size=1)
    with (
        lossy_link(LOSS, DELAY) as link,
        serving(
            tmp_path / "models",
            tmp_path,
            under=link.under,
            address=THERE,
            access="open",
            server={"port": 0, "host": "0.0.0.0"},
            models={"slow": {"refuse_unreachable": False}},
        ) as server,
    ):
        quick, late = asyncio.run(_call(server))
        assert len(quick) >= 60
        assert {reply.status for reply in quick} == {200}
        assert all(2 * DELAY < reply.seconds <= DEADLINE + SLACK for reply in quick)
        assert {reply.status for reply in late} == {504}
        assert all(DEADLINE <= reply.seconds <= DEADLINE + SLACK for reply in late)
        _wait_until(lambda: server.metric("maas_queue_requests") == 0)
        assert link.lost > 0


async def _call(server: Server) -> tuple[list[Reply], list[Reply]]:
    deadline = f"X-Request-Timeout: {DEADLINE}"
    quick = predict("double", [1.0, 2.0], deadline)
    late = predict("slow", [5000.0, 0.0], deadline)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(closed_loop(server.port, quick, 20, for_seconds(3.0), THERE))
        second = group.create_task(closed_loop(server.port, late, 5, for_seconds(1.0), THERE))
    return list(itertools.chain(*first.result())), list(itertools.chain(*second.result()))
