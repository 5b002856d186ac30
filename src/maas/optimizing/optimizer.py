"""From a version to a better one: make the candidates, measure them, hold their answers against the parent's, publish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from maas.batching.execution import InstanceGone
from maas.errors import BadArtifact, MaasError, ModelFailed
from maas.models.machine import this_machine
from maas.models.manifest import Description, Profile
from maas.models.publishing import publish
from maas.models.repository import Repository, StoredVersion
from maas.optimizing.candidates import Candidate, candidates, placements
from maas.optimizing.final import in_turns
from maas.optimizing.judging import (
    LEAST_GAIN,
    Limits,
    Measurement,
    Result,
    Target,
    best,
    finalists,
    gain,
    largest_error,
    metric_loss,
    refusal,
    tolerances,
)
from maas.optimizing.making import Workshop, finished
from maas.optimizing.measuring import answers, latency, measure, running
from maas.optimizing.samples import Generator
from maas.runtimes.golden import GoldenSample, load_golden
from maas.types import Tensors
from maas.workers.instance import Instance
from maas.workers.launcher import Launcher

_CHECKED_ROWS = (1, 4)
_WORTH_PLACING = (
    0.5  # of the best at one instance of one thread: what is slower there is not tried on more cores
)
_PROBE_SECONDS = 0.1
_HOPELESS = 4.0  # times the parent's time for one row: such a form is not measured further


_DEFAULT_LIMITS = Limits()


class Task(Protocol):
    """The task that the model was trained for, where its card says which: held-out inputs, and the metrics of answers."""

    @property
    def inputs(self) -> Sequence[Tensors]: ...

    def metrics(self, outputs: Sequence[Tensors]) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What the owner wants, and what may be given up for it. `seconds` are those of each point that is measured."""

    target: Target = "throughput"
    allow: tuple[str, ...] = ()
    limits: Limits = _DEFAULT_LIMITS
    seconds: float = 0.5
    allow_code: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """All results, the parent first; and the one to publish, or none where nothing is better by enough."""

    results: list[Result]
    winner: Result | None
    gain: float = 1.0
    published: str = ""


@dataclass(slots=True)
class _Form:
    """A candidate that was made, and what its answers were found to be."""

    candidate: Candidate
    stored: StoredVersion | None
    error: float | None = None
    loss: float | None = None
    refusal: str = ""
    has_failed: bool = False
    """It is not to be had, or not worth measuring."""
    results: list[Result] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        self.refusal = reason
        self.has_failed = True


Tell = Callable[[int, int, str], None]
"""Hears how many steps are done, of how many, and what is being done."""


def silent(done: int, of: int, what: str) -> None:
    """The `Tell` of who does not watch."""


def optimize(
    repository: Repository,
    parent: StoredVersion,
    wish: Wish,
    *,
    task: Task | None = None,
    tell: Tell = silent,
    dry_run: bool = False,
) -> Outcome:
    """Measure every candidate of `parent` here, and publish the best as the next version unless `dry_run`.

    Interrupted, it leaves no process, no folder and no version. Raises what loading the parent raises, and `ModelFailed`
    where its answers are not its golden ones.
    """
    manifest = parent.manifest
    samples = load_golden(parent.directory, manifest.signature, allow_non_finite=manifest.allow_non_finite)
    with TemporaryDirectory(prefix="maas-optimize-") as folder:
        forms = _make(Workshop(Path(folder), parent, samples, wish.allow_code), parent, wish, tell)
        baseline, winner = asyncio.run(_Bench(parent, wish, samples, task, tell).decide(forms))
        results = [result for form in forms for result in form.results]
        improvement = gain(winner, baseline, wish.target)
        if winner is baseline or improvement < LEAST_GAIN:
            return Outcome(results, None)
        if dry_run:
            return Outcome(results, winner, improvement)
        form = next(form for form in forms if winner in form.results)
        label = _publish(repository, parent, form, winner, samples, wish)
        return Outcome(results, winner, improvement, label)


def _make(workshop: Workshop, parent: StoredVersion, wish: Wish, tell: Tell) -> list[_Form]:
    manifest = parent.manifest
    found = candidates(manifest.runtime.name, manifest.runtime.options, manifest.files, wish.allow)
    forms = []
    for number, candidate in enumerate(found):
        tell(number, len(found), f"making {candidate.label}")
        try:
            forms.append(_Form(candidate, workshop.make(candidate)))
        except BadArtifact as error:
            if number == 0:
                raise
            forms.append(_Form(candidate, None, refusal=error.message))
    return forms


class _Bench:
    """Holds every form against the first, which is the parent in float32, measures those that answer right, and decides
    between the best."""

    def __init__(
        self,
        parent: StoredVersion,
        wish: Wish,
        samples: Sequence[GoldenSample],
        task: Task | None,
        tell: Tell,
    ) -> None:
        self._parent = parent
        self._signature = parent.manifest.signature
        self._batching = parent.manifest.batching
        self._wish = wish
        self._task = task
        self._tell = tell
        self._generator = Generator(self._signature, samples)
        self._requests = [sample.inputs for sample in samples] + self._generated()
        self._expected: list[Tensors] = [sample.outputs for sample in samples]
        self._metrics: Mapping[str, float] = {}
        self._latency = 0.0
        self._launcher = Launcher()

    async def decide(self, forms: Sequence[_Form]) -> tuple[Result, Result]:
        """Fill in each form's error and results; what there is now, and the best, which may be the same."""
        try:
            await self._measure(forms)
            return await self._decide(forms)
        finally:
            await self._launcher.close()

    async def _measure(self, forms: Sequence[_Form]) -> None:
        """Each form by itself."""
        first, *others = placements(os.cpu_count() or 1)
        await self._learn(forms[0])
        for number, form in enumerate(forms):
            await self._try(form, first, number, len(forms))
            _check_parent(forms[0].results[0])
        rest = [(form, place) for form in self._worth_placing(forms) for place in others]
        for number, (form, place) in enumerate(rest):
            await self._try(form, place, number, len(rest))

    async def _decide(self, forms: Sequence[_Form]) -> tuple[Result, Result]:
        """By turns, but for memory, which is as it was."""
        results = [result for form in forms for result in form.results]
        field = finalists(results, _baseline(self._parent, results), self._wish.target)
        if self._wish.target != "memory" and len(field) > 1:
            field = await self._measure_in_turns(field, forms)
            _check_parent(field[0])
        winner = best(field, self._wish.target)
        assert winner is not None, "the parent itself is one"
        return field[0], winner

    async def _measure_in_turns(self, field: Sequence[Result], forms: Sequence[_Form]) -> list[Result]:
        """What the finalists do in turns, which is in the place of their results then."""
        self._tell(0, 1, "the best in turns")
        owners = {id(result): form for form in forms for result in form.results}

        def load(result: Result) -> AbstractAsyncContextManager[list[Instance]]:
            stored = owners[id(result)].stored
            assert stored is not None, "it was measured"
            return self._running(stored, (result.instances, result.threads))

        final = await in_turns(field, load, self._batching, self._generator, self._wish.seconds)
        for before, after in zip(field, final, strict=True):
            own = owners[id(before)].results
            own[own.index(before)] = after
        return final

    async def _learn(self, reference: _Form) -> None:
        """What the parent answers to what is no golden sample, and how long it takes."""
        assert reference.stored is not None, "the parent was not made but copied"
        async with self._running(reference.stored, (1, 1)) as (instance,):
            golden = len(self._expected)
            self._expected += await answers(instance, self._signature, self._requests[golden:])
            self._metrics = await self._evaluate(instance)
            self._latency = await latency(instance, self._generator, self._wish.seconds)

    async def _try(self, form: _Form, place: tuple[int, int], done: int, of: int) -> None:
        """Append what is found of the form at `place`."""
        measurement = None
        if form.stored is not None and not form.has_failed:
            self._tell(done, of, f"{form.candidate.label}, {place[0]} × {place[1]}")
            try:
                async with self._running(form.stored, place) as instances:
                    measurement = await self._judge_and_measure(form, instances)
            except (MaasError, InstanceGone) as error:
                form.fail(getattr(error, "message", "its process died"))
        form.results.append(
            Result(form.candidate.label, *place, measurement, form.error, form.loss, form.refusal)
        )

    async def _judge_and_measure(self, form: _Form, instances: list[Instance]) -> Measurement | None:
        if form.error is None:
            found = await answers(instances[0], self._signature, self._requests)
            form.error = max(
                largest_error(self._signature, expected, actual)
                for expected, actual in zip(self._expected, found, strict=True)
            )
            form.loss = metric_loss(self._metrics, await self._evaluate(instances[0]))
            limits = self._wish.limits
            allowed = limits.of(form.candidate.is_reduced, self._signature)
            form.refusal = refusal(form.error, allowed, form.loss, limits.metric_loss)
            slowness = await latency(instances[0], self._generator, _PROBE_SECONDS) / self._latency
            if slowness > _HOPELESS:
                form.fail(f"one row takes {slowness:.0f} times as long as in the parent")
                return None
        return await measure(instances, self._signature, self._batching, self._generator, self._wish.seconds)

    async def _evaluate(self, instance: Instance) -> Mapping[str, float]:
        if self._task is None:
            return {}
        return self._task.metrics(await answers(instance, self._signature, self._task.inputs))

    def _running(
        self, stored: StoredVersion, place: tuple[int, int]
    ) -> AbstractAsyncContextManager[list[Instance]]:
        return running(self._launcher, stored, *place, self._wish.allow_code)

    def _worth_placing(self, forms: Sequence[_Form]) -> list[_Form]:
        """Those that may win on more cores. One process of one thread takes the least memory anyhow."""
        if self._wish.target == "memory":
            return []
        right = [form for form in forms if best(form.results, self._wish.target) is not None]
        winner = best([form.results[0] for form in right], self._wish.target)
        assert winner is not None, "the parent itself is one"
        return [form for form in right if gain(form.results[0], winner, self._wish.target) >= _WORTH_PLACING]

    def _generated(self) -> list[Tensors]:
        rows = [row for row in _CHECKED_ROWS if row <= self._batching.max_batch_size]
        counts = rows if self._signature.is_batched else [1]
        return [
            self._generator.request(count, lengths) for lengths in self._generator.lengths for count in counts
        ]


def _check_parent(result: Result) -> None:
    if result.refusal:
        raise ModelFailed(f"{result.label}, the model as it is, cannot be measured: {result.refusal}")


def _baseline(parent: StoredVersion, results: Sequence[Result]) -> Result:
    """The parent as it is served here now: as it was measured to run best, or as one instance of one thread."""
    profile = parent.manifest.profile
    is_here = profile is not None and profile.machine == this_machine()
    place = (profile.instances, profile.threads) if profile is not None and is_here else (1, 1)
    own = [result for result in results if result.label == results[0].label and not result.refusal]
    return next((result for result in own if (result.instances, result.threads) == place), own[0])


def _publish(
    repository: Repository,
    parent: StoredVersion,
    form: _Form,
    winner: Result,
    samples: Sequence[GoldenSample],
    wish: Wish,
) -> str:
    """Seal the form as the next version, proven against the parent's golden samples within what was allowed."""
    assert form.stored is not None, "it was measured"
    assert winner.measurement is not None, "it was measured"
    manifest, candidate, measured = parent.manifest, form.candidate, winner.measurement
    is_parent = candidate.label == f"{manifest.runtime.name} float32"
    allowed = wish.limits.of(candidate.is_reduced, manifest.signature)
    profile = Profile(
        machine=this_machine(),
        target=wish.target,
        instances=winner.instances,
        threads=winner.threads,
        samples_per_second=float(f"{measured.samples_per_second:.4g}"),
        latency=float(f"{measured.latency:.4g}"),
        memory=measured.memory,
    )
    own = {key: getattr(manifest, key) for key in Description.model_fields}
    description = Description(**own).model_copy(
        update={
            "runtime": form.stored.manifest.runtime,
            "tolerances": manifest.tolerances
            if is_parent
            else tolerances(
                manifest.signature, [sample.outputs for sample in samples], allowed, manifest.tolerances
            ),
            "made_with": manifest.made_with | {name: _installed(name) for name in candidate.needs},
            "parent": parent.label,
            "profile": profile,
        }
    )
    stored = publish(
        repository, manifest.name, description, finished(form.stored), allow_code=wish.allow_code
    )
    return stored.label


def _installed(package: str) -> str:
    """The version of what is imported as `package`, which several distributions may bring (`onnxruntime-gpu`)."""
    return metadata.version(metadata.packages_distributions()[package][0])
