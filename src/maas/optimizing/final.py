"""The last word: the finalists in turns, all of them loaded at once.

Forms that are measured one after the other have had the machine as it happened to be then, and what else it did may make any of
them the best. In turns they have it alike. Memory does not depend on who else is busy, and stays as it was measured alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace

from maas.batching.execution import InstanceGone
from maas.errors import MaasError
from maas.models.manifest import Batching
from maas.optimizing.judging import Result
from maas.optimizing.measuring import Course
from maas.optimizing.samples import Generator
from maas.workers.instance import Instance

TURNS = 5
"""Of each finalist; who is first goes round. The medians count."""

Load = Callable[[Result], AbstractAsyncContextManager[list[Instance]]]
"""Loads a form where its result was measured."""


@dataclass(slots=True)
class _Finalist:
    result: Result
    course: Course | None = None

    def fail(self, error: Exception) -> None:
        reason = getattr(error, "message", "its process died")
        self.result = replace(self.result, refusal=f"beside the other finalists: {reason}")
        self.course = None

    @property
    def final_result(self) -> Result:
        """Its samples a second and the time of one row as they were in turns."""
        if self.course is None or self.result.measurement is None:
            return self.result
        found = self.course.measurement()
        return replace(
            self.result,
            measurement=replace(
                self.result.measurement,
                samples_per_second=found.samples_per_second,
                latency=found.latency,
            ),
            is_final=True,
        )


async def in_turns(
    results: Sequence[Result], load: Load, batching: Batching, generator: Generator, seconds: float
) -> list[Result]:
    """`results` in their order, each measured again at its best batch size; one that fails is refused."""
    finalists = [_Finalist(result) for result in results]
    async with AsyncExitStack() as stack:
        for each in finalists:
            assert each.result.measurement is not None, "only what was measured is a finalist"
            size = each.result.measurement.batch_size
            try:
                instances = await stack.enter_async_context(load(each.result))
                each.course = Course(instances, batching, generator, [size], seconds)
            except (MaasError, InstanceGone) as error:
                each.fail(error)
        for turn in range(TURNS):
            first = turn % len(finalists)
            for each in (*finalists[first:], *finalists[:first]):
                await _run(each)
        return [each.final_result for each in finalists]


async def _run(finalist: _Finalist) -> None:
    if finalist.course is not None:
        try:
            await finalist.course.run()
        except (MaasError, InstanceGone) as error:
            finalist.fail(error)
