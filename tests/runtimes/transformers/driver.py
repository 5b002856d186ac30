"""The scheduler's plans carried out by a runner, which takes the likeliest tokens; and what `generate` answers alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tests.runtimes.transformers.models import VOCABULARY
from transformers import PreTrainedModel

from maas.generation.job import Job, Token
from maas.generation.limits import Limits
from maas.generation.scheduler import Scheduler
from maas.runtimes.transformers.step import StepRunner


def greedy_in_steps(
    runner: StepRunner, prompts: Sequence[Sequence[int]], longest: Sequence[int], budget: int
) -> list[list[int]]:
    """The likeliest tokens after each prompt, `longest` of them, all run together."""
    limits = Limits(runner.cache.context, runner.cache.slots, VOCABULARY)
    scheduler = Scheduler(limits, eos=frozenset(), token_budget=budget, max_waiting=len(prompts))
    answers: dict[Job, list[int]] = {
        Job(tuple(prompt), max_new=most): [] for prompt, most in zip(prompts, longest, strict=True)
    }
    for job in answers:
        scheduler.submit(job)
    while not scheduler.is_idle:
        plan = scheduler.plan(0.0)
        for copy in plan.copies:
            runner.cache.copy(copy.source, copy.target, copy.length)
        likeliest = runner.run(plan.chunks).argmax(-1).tolist()
        for step in scheduler.complete([Token(token) for token in likeliest]):
            answers[step.job].extend(token.id for token in step.tokens)
    return list(answers.values())


def greedy_by_generate(model: PreTrainedModel, prompt: Sequence[int], longest: int) -> list[int]:
    """What `transformers` itself answers to the prompt alone."""
    answer = model.generate(
        torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=longest,
        do_sample=False,
    )
    return answer[0, len(prompt) :].tolist()
