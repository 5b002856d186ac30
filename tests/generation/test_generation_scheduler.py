"""What the scheduler plans, step by step."""

from __future__ import annotations

import math

import pytest
from tests.fakes import FakeEngine

from maas.errors import DeadlineExceeded, InvalidRequest, ModelFailed, QueueFull
from maas.generation.job import Finish, Job, Step, Token, Usage
from maas.generation.limits import Limits
from maas.generation.sampling import Sampling
from maas.generation.scheduler import Plan, Scheduler

EOS = 0
VOCABULARY = 250
LONG = Sampling(ignore_eos=True)


class Run:
    """A scheduler with its engine; `step` does one step and keeps its plan."""

    def __init__(self, *, slots: int = 4, context: int = 64, budget: int = 8, waiting: int = 8) -> None:
        limits = Limits(context, slots, VOCABULARY)
        eos = frozenset({EOS})
        self.scheduler = Scheduler(limits, eos=eos, token_budget=budget, max_waiting=waiting)
        self.engine = FakeEngine(slots, context, VOCABULARY)
        self.plans: list[Plan] = []

    def submit(self, *prompt: int, max_new: int = 9, priority: int = 0, deadline: float = math.inf) -> Job:
        job = Job(prompt, LONG, max_new, priority=priority, deadline=deadline)
        self.scheduler.submit(job)
        return job

    def step(self, now: float = 0.0) -> list[Step]:
        plan = self.scheduler.plan(now)
        self.plans.append(plan)
        try:
            tokens = self.engine.run(plan)
        except ModelFailed as error:
            return [*plan.expired, *self.scheduler.fail(error)]
        return [*plan.expired, *(self.scheduler.complete(tokens) if plan.chunks else [])]

    def sizes(self) -> tuple[int, list[int]]:
        """Decodes and the sizes of the chunks of prompts in the last plan."""
        return len(self.plans[-1].decodes), [len(chunk.tokens) for chunk in self.plans[-1].prefills]


def test_a_prompt_runs_in_chunks_and_then_a_token_a_step() -> None:
    """Logits are wanted after the prompt's last token and after each of the answer; positions follow each other."""
    run = Run(budget=4)
    job = run.submit(*range(1, 11), max_new=3)
    steps = [run.step() for _ in range(5)]
    chunks = [chunk for plan in run.plans for chunk in plan.chunks]
    assert [(c.start, len(c.tokens), c.wants_logits) for c in chunks] == [
        (0, 4, False),
        (4, 4, False),
        (8, 2, True),
        (10, 1, True),
        (11, 1, True),
    ]
    assert [len(given) for given in steps] == [0, 0, 1, 1, 1]
    assert steps[-1][0].usage == Usage(prompt=10, cached=0, generated=3)
    assert steps[-1][0].finish is Finish.LENGTH
    assert steps[-1][0].job is job
    assert run.scheduler.is_idle


def test_answers_go_before_prompts_and_the_budget_is_for_both() -> None:
    """A prompt gets what the answers that have begun leave of the budget."""
    run = Run(budget=8)
    run.submit(1)
    run.submit(2)
    run.step()
    run.submit(*range(3, 13))
    run.step()
    assert run.sizes() == (2, [6])
    run.step()
    assert run.sizes() == (2, [4])
    run.step()
    assert run.sizes() == (3, [])


def test_answers_alone_may_be_more_than_the_budget() -> None:
    """A budget below the slots holds prompts back, and never an answer."""
    run = Run(slots=3, budget=1)
    for first in (1, 2, 3):
        run.submit(first)
    widths = []
    for _ in range(11):
        run.step()
        widths.append(run.sizes())
    assert widths[:3] == [(0, [1]), (1, []), (1, [])]  # the second waits for the first to end
    assert all(decodes + sum(prefills) <= 1 for decodes, prefills in widths)
    wide = Run(slots=3, budget=3)
    for first in (1, 2, 3):
        wide.submit(first)
    wide.step()
    wide.step()
    assert wide.sizes() == (3, [])


def test_who_waits_is_admitted_by_priority_and_then_by_arrival() -> None:
    """With one slot they run one after the other; a lower number is before a higher."""
    run = Run(slots=1)
    jobs = [
        run.submit(first, max_new=1, priority=priority)
        for first, priority in ((1, 1), (2, 0), (3, 1), (4, 0))
    ]
    order = [run.step()[0].job for _ in jobs]
    assert order == [jobs[1], jobs[3], jobs[0], jobs[2]]


def test_a_more_urgent_prompt_goes_before_the_rest_of_one_that_has_begun() -> None:
    """It gets the budget until it is through, and what runs keeps its slot."""
    run = Run(budget=4)
    run.submit(*range(1, 13), priority=1)
    run.step()
    urgent = run.submit(*range(20, 27), priority=0)
    sizes = []
    for _ in range(2):
        run.step()
        sizes.append([(chunk.job is urgent, len(chunk.tokens)) for chunk in run.plans[-1].prefills])
    assert sizes == [[(True, 4)], [(True, 3), (False, 1)]]


def test_the_second_of_two_like_prompts_is_given_what_the_first_has_computed() -> None:
    """It is admitted when its turn has come, and so finds the prefix; usage says how much."""
    run = Run(budget=8)
    prompt = [*range(1, 17)]
    run.submit(*prompt)
    second = run.submit(*prompt)
    steps = [step for _ in range(3) for step in run.step() if step.job is second]
    assert steps[0].usage == Usage(prompt=16, cached=15, generated=1)
    assert [copy.length for copy in run.plans[2].copies] == [15]


@pytest.mark.parametrize(
    ("sampling", "finish"),
    [
        (Sampling(), Finish.STOP),
        (Sampling(ignore_eos=True), None),
        (Sampling(min_tokens=1), None),
        (Sampling(min_tokens=0), Finish.STOP),
    ],
)
def test_a_token_of_the_models_ends_an_answer(sampling: Sampling, finish: Finish | None) -> None:
    """Unless it is ignored, or too few tokens came before."""
    scheduler = Scheduler(Limits(9, 1, 9), eos=frozenset({EOS}), token_budget=4, max_waiting=1)
    scheduler.submit(Job([1], sampling))
    scheduler.plan(0)
    (step,) = scheduler.complete([Token(EOS)])
    assert step.finish is finish
    assert step.usage.generated == 1


def test_a_deadline_is_looked_at_before_each_step() -> None:
    """Who waits and who runs ends with `DeadlineExceeded` at the deadline itself, and the slot is free for the next."""
    run = Run(slots=1)
    late = run.submit(1, deadline=5.0)
    waiting = run.submit(2, deadline=4.0)
    third = run.submit(3)
    assert [step.job for step in run.step(3.9)] == [late]
    refused, _ = run.step(4.0)
    assert (refused.job, type(refused.finish)) == (waiting, DeadlineExceeded)
    ended, given = run.step(5.0)
    assert isinstance(ended.finish, DeadlineExceeded)
    assert (ended.job, ended.usage.generated) == (late, 2)
    assert given.job is third


def test_a_caller_who_leaves_while_a_step_runs_gets_nothing_of_it() -> None:
    """The slot is free for the next step, and a neighbour does not notice."""
    run = Run(slots=2)
    leaves = run.submit(1)
    stays = run.submit(2)
    plan = run.scheduler.plan(0)
    assert run.scheduler.cancel(leaves) == Usage(1, 0, 0)
    assert run.scheduler.cancel(leaves) is None
    assert [step.job for step in run.scheduler.complete(run.engine.run(plan))] == [stays]
    run.step()
    assert [chunk.slot for chunk in run.plans[-1].chunks] == [0]


def test_of_a_step_that_fails_only_the_guilty_job_fails() -> None:
    """Each runs alone once, nobody else meanwhile; then the innocent go on together."""
    run = Run()
    jobs = [run.submit(first) for first in (1, 2, 3)]
    run.step()
    error = ModelFailed("bad")
    run.engine.judge = lambda plan: error if jobs[1] in [chunk.job for chunk in plan.chunks] else None
    assert run.step() == []
    newcomer = run.submit(4)
    outcomes = [(step.job, step.finish) for _ in range(3) for step in run.step()]
    assert outcomes == [(jobs[0], None), (jobs[1], error), (jobs[2], None)]
    assert {step.job for step in run.step()} == {jobs[0], jobs[2], newcomer}


def test_a_full_queue_refuses_at_once() -> None:
    """Who finds as many waiting as may wait is told so."""
    run = Run(waiting=1)
    run.submit(1)
    with pytest.raises(QueueFull, match="1 jobs are waiting; 1 may"):
        run.submit(2)


def test_what_the_model_cannot_take_is_never_queued() -> None:
    """A refused job leaves nothing behind."""
    run = Run()
    with pytest.raises(InvalidRequest):
        run.submit(VOCABULARY)
    assert run.scheduler.is_idle


def test_nothing_to_do_is_a_plan_without_chunks() -> None:
    """It need not be completed, and the next may be asked for."""
    run = Run()
    assert run.scheduler.plan(0).chunks == ()
    assert run.scheduler.plan(1).chunks == ()
    assert repr(run.scheduler) == "<Scheduler: 0 waiting, 0 running>"
