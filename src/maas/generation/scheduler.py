"""What runs in each step of the continuous batch. Pure: it is told the time, and what a step gave.

1. A step is one token of every answer that has begun, and pieces of prompts up to `token_budget` tokens in all. Answers go first, and
   they alone may be more than the budget.
2. What is left of the budget goes to the prompts by priority, then by arrival, whether they run or wait. One that waits is
   admitted when there is a slot and something left for it; so it finds the prefixes that those before it have just computed.
3. A slot has room for the prompt and the longest answer, so nothing is preempted and something runs in each step, while there is
   anything to run.
4. Deadlines end jobs before a step. A job that is cancelled has left by the next step, and what a step that runs gives it is dropped.
5. When a step fails, its jobs run alone, each once, before anything else does; one that fails alone has failed. Nothing is lost: a
   position that a failed step may have written is written again.

An owner calls `plan`, runs what it says, and then `complete` or `fail`, in turns; `submit` and `cancel` at any time. Each job that
was submitted ends once: by a `Step` with a `finish`, or by `cancel`.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter

from maas.errors import DeadlineExceeded, MaasError, QueueFull
from maas.generation.job import Finish, Job, Step, Token, Usage
from maas.generation.limits import Limits
from maas.generation.slots import Copy, Holding, SlotTable

_RETRY_AFTER = 1.0  # seconds, as no pace is known here
_order = attrgetter("order")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one job to run in `slot`, the first at position `start`. With `wants_logits` a token is to be chosen after the last
    of them; `answer` are those chosen before, for penalties. It is the scheduler's own list, and grows when the step is complete.
    """

    job: Job
    slot: int
    start: int
    tokens: tuple[int, ...]
    wants_logits: bool
    answer: Sequence[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """A step: `copies` within the cache, in order and before all else; then one decode for each answer and the chunks of prompts,
    together. `expired` have ended before it. A copy is none of a request's doing: where one fails, the cache is lost."""

    expired: tuple[Step, ...]
    copies: tuple[Copy, ...]
    decodes: tuple[Chunk, ...]
    prefills: tuple[Chunk, ...]

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        return self.decodes + self.prefills

    @property
    def sampled(self) -> tuple[Chunk, ...]:
        """Those after which a token is chosen, in the order in which `Scheduler.complete` takes the tokens."""
        return tuple(chunk for chunk in self.chunks if chunk.wants_logits)


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """A glance: jobs `waiting` and `running`, and the cache's positions that the running ones have reserved."""

    waiting: int
    running: int
    reserved: int


@dataclass(slots=True, eq=False)
class _Waiting:
    job: Job
    order: tuple[int, int]

    @property
    def usage(self) -> Usage:
        return Usage(len(self.job.prompt), 0, 0)


class _Running:
    __slots__ = ("answer", "cached", "holding", "job", "longest", "order")

    def __init__(self, waiting: _Waiting, holding: Holding, longest: int) -> None:
        self.job = waiting.job
        self.order = waiting.order
        self.holding = holding
        self.cached = len(holding.tokens)
        self.longest = longest
        self.answer: list[int] = []

    @property
    def is_decoding(self) -> bool:
        return bool(self.answer)

    @property
    def prompt_left(self) -> int:
        return len(self.job.prompt) - len(self.holding.tokens)

    @property
    def usage(self) -> Usage:
        return Usage(len(self.job.prompt), self.cached, len(self.answer))

    def chunk(self, most: int) -> Chunk:
        start, prompt = len(self.holding.tokens), self.job.prompt
        tokens = (self.answer[-1],) if self.is_decoding else tuple(prompt[start : start + most])
        wants_logits = start + len(tokens) >= len(prompt)
        return Chunk(self.job, self.holding.slot, start, tokens, wants_logits, self.answer)


class Scheduler:
    """`eos` are the tokens by which the model ends an answer; `max_waiting` jobs wait at most."""

    def __init__(self, limits: Limits, *, eos: frozenset[int], token_budget: int, max_waiting: int) -> None:
        assert token_budget > 0
        self._limits = limits
        self._eos = eos
        self._token_budget = token_budget
        self._max_waiting = max_waiting
        self._slots = SlotTable(limits.slots, limits.context)
        self._waiting: list[_Waiting] = []  # by order
        self._running: dict[Job, _Running] = {}
        self._suspects: deque[Job] = deque()  # of a step that failed: to be run alone
        self._arrivals = count()
        self._earliest = math.inf  # no deadline is earlier
        self._plan: Plan | None = None

    def __repr__(self) -> str:
        return f"<Scheduler: {len(self._waiting)} waiting, {len(self._running)} running>"

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(len(self._waiting), len(self._running), self._slots.reserved)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    def submit(self, job: Job) -> None:
        """Queue `job`. Raises `InvalidRequest` where the model cannot take it, `QueueFull` where too many wait."""
        self._limits.check(job)
        if len(self._waiting) >= self._max_waiting:
            reason = f"{len(self._waiting)} jobs are waiting; {self._max_waiting} may"
            raise QueueFull(reason, retry_after=_RETRY_AFTER)
        insort(self._waiting, _Waiting(job, (job.priority, next(self._arrivals))), key=_order)
        self._earliest = min(self._earliest, job.deadline)

    def cancel(self, job: Job) -> Usage | None:
        """End `job`, whose caller has left or whose text is complete. What it has used, or None where it had ended."""
        if (running := self._running.get(job)) is not None:
            self._leave(running)
            return running.usage
        for waiting in self._waiting:
            if waiting.job is job:
                self._waiting.remove(waiting)
                return waiting.usage
        return None

    def plan(self, now: float) -> Plan:
        """The next step. Without chunks there is nothing to run, and it need not be completed."""
        assert self._plan is None
        expired = self._expire(now)
        copies, chosen = self._choose_suspect() if self._suspects else self._choose()
        copies += self._slots.compact()
        chunks = [running.chunk(most) for running, most in chosen]
        decodes = tuple(chunk for chunk in chunks if chunk.answer)
        prefills = tuple(chunk for chunk in chunks if not chunk.answer)
        assert chunks or not copies
        plan = Plan(expired, tuple(copies), decodes, prefills)
        self._plan = plan if chunks else None
        return plan

    def complete(self, tokens: Sequence[Token]) -> list[Step]:
        """The plan has run, and `tokens` were chosen after its `sampled` chunks."""
        plan = self._take_plan()
        chosen = dict(zip([chunk.job for chunk in plan.sampled], tokens, strict=True))
        steps = []
        for chunk in plan.chunks:
            if (running := self._running.get(chunk.job)) is None:  # left while the step ran
                continue
            running.holding.write(chunk.tokens)
            if chunk.wants_logits:
                steps.append(self._advance(running, chosen[chunk.job]))
        return steps

    def fail(self, error: MaasError) -> list[Step]:
        """The plan's step has raised. What ran alone has failed with `error`; of several, each will run alone."""
        plan = self._take_plan()
        still_here = [running for chunk in plan.chunks if (running := self._running.get(chunk.job))]
        if len(plan.chunks) > 1:
            self._suspects.extend(running.job for running in still_here)
            return []
        return [self._end(running, error) for running in still_here]

    def _take_plan(self) -> Plan:
        plan, self._plan = self._plan, None
        assert plan is not None
        return plan

    def _choose_suspect(self) -> tuple[list[Copy], list[tuple[_Running, int]]]:
        return [], [(self._running[self._suspects.popleft()], self._token_budget)]

    def _choose(self) -> tuple[list[Copy], list[tuple[_Running, int]]]:
        """Who runs, each with the most tokens that it may; and what is to be copied for those who are admitted."""
        copies: list[Copy] = []
        chosen = [(running, 1) for running in self._running.values() if running.is_decoding]
        left = self._token_budget - len(chosen)
        prompts = deque(sorted(self._begun_prompts(), key=_order))
        while left > 0 and (prompts or self._may_admit()):
            if not prompts or (self._may_admit() and self._waiting[0].order < prompts[0].order):
                running, own = self._admit()
                copies += own
            else:
                running = prompts.popleft()
            size = min(left, running.prompt_left)
            chosen.append((running, size))
            left -= size
        return copies, chosen

    def _begun_prompts(self) -> list[_Running]:
        return [running for running in self._running.values() if not running.is_decoding]

    def _may_admit(self) -> bool:
        return bool(self._waiting) and self._slots.has_room

    def _admit(self) -> tuple[_Running, list[Copy]]:
        waiting = self._waiting.pop(0)
        longest = self._limits.longest_answer(waiting.job)
        holding, copies = self._slots.admit(waiting.job.prompt, longest)
        running = _Running(waiting, holding, longest)
        self._running[waiting.job] = running
        return running, copies

    def _expire(self, now: float) -> tuple[Step, ...]:
        """End whose deadline is reached."""
        if now < self._earliest:
            return ()
        due = [waiting for waiting in self._waiting if waiting.job.deadline <= now]
        self._waiting = [waiting for waiting in self._waiting if waiting.job.deadline > now]
        steps = [Step(waiting.job, (), waiting.usage, _late(waiting.usage)) for waiting in due]
        late = [running for running in self._running.values() if running.job.deadline <= now]
        steps += [self._end(running, _late(running.usage)) for running in late]
        self._earliest = min((job.deadline for job in self._jobs()), default=math.inf)
        return tuple(steps)

    def _jobs(self) -> list[Job]:
        return [*self._running, *(waiting.job for waiting in self._waiting)]

    def _advance(self, running: _Running, token: Token) -> Step:
        """Take one more token of the answer, which may be its last."""
        sampling = running.job.sampling
        may_end = not sampling.ignore_eos and len(running.answer) >= sampling.min_tokens
        running.answer.append(token.id)
        finish = None
        if may_end and token.id in self._eos:
            finish = Finish.STOP
        elif len(running.answer) >= running.longest:
            finish = Finish.LENGTH
        if finish is not None:
            self._leave(running)
        return Step(running.job, (token,), running.usage, finish)

    def _end(self, running: _Running, error: MaasError) -> Step:
        self._leave(running)
        return Step(running.job, (), running.usage, error)

    def _leave(self, running: _Running) -> None:
        del self._running[running.job]
        self._slots.free(running.holding)
        if running.job in self._suspects:
            self._suspects.remove(running.job)


def _late(usage: Usage) -> DeadlineExceeded:
    return DeadlineExceeded(f"the deadline passed after {usage.generated} tokens of the answer")
