"""Conservation: in whatever order jobs come, leave, expire and fail, each ends once, with exactly its own tokens, and while there is
anything to do, every step does something."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.fakes import FakeEngine, next_token

from maas.errors import DeadlineExceeded, InvalidRequest, MaasError, ModelFailed, QueueFull
from maas.generation.job import Finish, Job, Step
from maas.generation.limits import Limits
from maas.generation.sampling import Sampling
from maas.generation.scheduler import Plan, Scheduler

VOCABULARY = 4
EOS = 0
CONTEXT = 24
MOST_WAITING = 6

BAD = ModelFailed("this one fails wherever it runs")
TOO_MANY = ModelFailed("together they fail")


@dataclass(eq=False)
class Sent:
    """A job as its caller knows it. The step with `poison` tokens before it raises."""

    job: Job
    order: tuple[int, int]
    poison: int | None
    tokens: list[int] = field(default_factory=list)
    finish: Finish | MaasError | None = None
    has_left: bool = False
    has_begun: bool = False

    @property
    def is_open(self) -> bool:
        return self.finish is None and not self.has_left

    def answer(self) -> list[int]:
        """What a model that runs this job alone says."""
        tokens: list[int] = []
        most = CONTEXT - len(self.job.prompt) if self.job.max_new is None else self.job.max_new
        while len(tokens) < most:
            tokens.append(next_token([*self.job.prompt, *tokens], VOCABULARY))
            sampling = self.job.sampling
            if tokens[-1] == EOS and not sampling.ignore_eos and len(tokens) > sampling.min_tokens:
                break
        return tokens


prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=CONTEXT + 1)
samplings = st.builds(Sampling, min_tokens=st.integers(0, 3), ignore_eos=st.booleans())


class Generation(RuleBasedStateMachine):
    """Callers, a scheduler, and an engine whose answers depend on each token that its cache holds. Time is `now`."""

    @initialize(slots=st.integers(1, 4), budget=st.integers(1, 9))
    def begin(self, slots: int, budget: int) -> None:
        self.now = 0.0
        self.budget = budget
        self.sent: dict[Job, Sent] = {}
        self.together = False  # whether steps of several jobs fail
        self.limits = Limits(CONTEXT, slots, VOCABULARY)
        self.scheduler = Scheduler(
            self.limits, eos=frozenset({EOS}), token_budget=budget, max_waiting=MOST_WAITING
        )
        self.engine = FakeEngine(slots, CONTEXT, VOCABULARY)
        self.engine.judge = self.judge

    @rule(
        prompt=prompts,
        like=st.integers(0, 9),
        sampling=samplings,
        max_new=st.none() | st.integers(1, 9),
        priority=st.integers(0, 2),
        timeout=st.just(1e9) | st.floats(0, 5),
        poison=st.none() | st.none() | st.integers(0, 3),
    )
    def arrive(
        self,
        prompt: list[int],
        like: int,
        sampling: Sampling,
        max_new: int | None,
        priority: int,
        timeout: float,
        poison: int | None,
    ) -> None:
        """A job comes, which may begin like the one before it."""
        if like and self.sent:
            prompt = [*[*self.sent][-1].prompt[:like], *prompt]
        job = Job(prompt, sampling, max_new, deadline=self.now + timeout, priority=priority)
        try:
            self.scheduler.submit(job)
        except (InvalidRequest, QueueFull):
            return
        self.sent[job] = Sent(job, (priority, len(self.sent)), poison)

    @rule(index=st.integers(0, 99))
    def leave(self, index: int) -> None:
        """A caller leaves, whether its job has ended or not."""
        if self.sent:
            sent = [*self.sent.values()][index % len(self.sent)]
            usage = self.scheduler.cancel(sent.job)
            assert (usage is not None) == sent.is_open
            assert usage is None or usage.generated == len(sent.tokens)
            sent.has_left = sent.has_left or sent.is_open

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(together=st.booleans())
    def crowd(self, together: bool) -> None:
        """From now on steps of several jobs fail, or they do not."""
        self.together = together

    @rule(leaver=st.none() | st.integers(0, 99))
    def step(self, leaver: int | None) -> None:
        """One step, while which a caller may leave."""
        was_idle = self.scheduler.is_idle
        plan = self.scheduler.plan(self.now)
        self.receive(plan.expired)
        assert was_idle or plan.expired or plan.chunks
        assert not any(sent.is_open and sent.job.deadline <= self.now for sent in self.sent.values())
        self.check_plan(plan)
        if not plan.chunks:
            assert self.scheduler.is_idle
            return
        try:
            tokens = self.engine.run(plan)
        except ModelFailed as error:
            self.maybe_leave(leaver)
            self.receive(self.scheduler.fail(error))
        else:
            self.maybe_leave(leaver)
            self.receive(self.scheduler.complete(tokens))

    def maybe_leave(self, leaver: int | None) -> None:
        if leaver is not None:
            self.leave(leaver)

    def judge(self, plan: Plan) -> Exception | None:
        for chunk in plan.chunks:
            if self.sent[chunk.job].poison == len(chunk.answer):
                return BAD
        return TOO_MANY if self.together and len(plan.chunks) > 1 else None

    def check_plan(self, plan: Plan) -> None:
        """Within the budget, in compact slots, nobody twice, nobody who is gone, and first who is first."""
        slots = [chunk.slot for chunk in plan.chunks]
        assert len({*slots}) == len(slots)
        assert all(slot < self.scheduler.statistics().running for slot in slots)
        assert all(self.sent[chunk.job].is_open for chunk in plan.chunks)
        assert all(len(chunk.tokens) == 1 for chunk in plan.decodes)
        prefilled = sum(len(chunk.tokens) for chunk in plan.prefills)
        assert not plan.prefills or len(plan.decodes) + prefilled <= self.budget
        answering = sum(sent.is_open and bool(sent.tokens) for sent in self.sent.values())
        assert len(plan.chunks) < 2 or len(plan.decodes) == answering  # unless it is looked for the guilty
        starting = []
        for chunk in plan.prefills:
            sent = self.sent[chunk.job]
            starting += [] if sent.has_begun else [sent.order]
            assert chunk.tokens == tuple(sent.job.prompt[chunk.start : chunk.start + len(chunk.tokens)])
            sent.has_begun = True
        waiting = [sent.order for sent in self.sent.values() if sent.is_open and not sent.has_begun]
        assert not starting or not waiting or max(starting) < min(waiting)

    def receive(self, steps: list[Step] | tuple[Step, ...]) -> None:
        """Each step is for a caller who waits for it, and no more come after the last."""
        for step in steps:
            sent = self.sent[step.job]
            assert sent.is_open
            sent.tokens += [token.id for token in step.tokens]
            sent.finish = step.finish
            assert step.usage.generated == len(sent.tokens)
            assert step.usage.cached < step.usage.prompt == len(sent.job.prompt)
            self.check_end(sent)

    def check_end(self, sent: Sent) -> None:
        """What it was given is the beginning of its answer, or all of it; and it fails only for what is its own."""
        answer = sent.answer()
        assert sent.tokens == answer[: len(sent.tokens)]
        assert isinstance(sent.finish, Finish) == (
            sent.tokens == answer and not isinstance(sent.finish, MaasError)
        )
        if sent.finish is Finish.STOP:
            assert answer[-1] == EOS
        elif isinstance(sent.finish, ModelFailed):
            assert (sent.finish, sent.poison) == (BAD, len(sent.tokens))
        elif isinstance(sent.finish, DeadlineExceeded):
            assert sent.job.deadline <= self.now

    @invariant()
    def nobody_is_lost(self) -> None:
        """Who has not ended waits or runs, and what runs has reserved no more than there is."""
        if hasattr(self, "scheduler"):
            now = self.scheduler.statistics()
            assert now.waiting + now.running == sum(sent.is_open for sent in self.sent.values())
            assert now.running <= self.limits.slots
            assert now.reserved <= now.running * CONTEXT

    def teardown(self) -> None:
        """Left alone, everything ends within as many steps as there are tokens, each twice where steps fail."""
        if not hasattr(self, "scheduler"):
            return
        tokens = sum(
            len(sent.job.prompt) + len(sent.answer()) + 1 for sent in self.sent.values() if sent.is_open
        )
        for _ in range(2 * tokens):
            self.step(None)
        assert self.scheduler.is_idle
        assert self.scheduler.statistics().reserved == 0
        for sent in self.sent.values():
            assert sent.has_left or sent.finish is not None
            assert not isinstance(sent.finish, Finish) or sent.tokens == sent.answer()


Generation.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_each_job_ends_once_with_its_own_tokens = Generation.TestCase
