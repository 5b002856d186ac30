"""A schedule for tests, as plain as can be: first come first served over a few slots, prompts in chunks beside decodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from maas.runtimes.transformers.step import Chunk, StepRunner


@dataclass(slots=True)
class Running:
    index: int
    prompt: Sequence[int]
    longest: int
    done: int = 0  # positions in the cache
    answer: list[int] = field(default_factory=list)

    def next_chunk(self, slot: int, budget: int) -> Chunk:
        if self.answer:
            return Chunk(slot, self.done, self.answer[-1:])
        tokens = self.prompt[self.done : self.done + budget]
        return Chunk(slot, self.done, tokens, wants_logits=self.done + len(tokens) == len(self.prompt))


def greedy_in_steps(
    runner: StepRunner, prompts: Sequence[Sequence[int]], longest: Sequence[int], budget: int
) -> list[list[int]]:
    """The likeliest tokens after each prompt, `longest` of them, all run together; holes are filled by moving the last slot."""
    waiting = deque(Running(i, p, n) for i, (p, n) in enumerate(zip(prompts, longest, strict=True)))
    running: list[Running] = []
    answers: dict[int, list[int]] = {}
    while waiting or running:
        while waiting and len(running) < runner.cache.slots:
            running.append(waiting.popleft())
        _step(runner, running, budget)
        for slot in reversed(range(len(running))):
            if len(running[slot].answer) == running[slot].longest:
                answers[running[slot].index] = running[slot].answer
                last = running.pop()
                if slot < len(running):
                    runner.cache.copy(len(running), slot, last.done)
                    running[slot] = last
    return [answers[i] for i in range(len(prompts))]


def _step(runner: StepRunner, running: Sequence[Running], budget: int) -> None:
    chunks = list(_plan(running, budget))
    likeliest = iter(runner.run(chunks).argmax(-1).tolist())
    for chunk in chunks:
        running[chunk.slot].done = chunk.end
        if chunk.wants_logits:
            running[chunk.slot].answer.append(next(likeliest))


def _plan(running: Sequence[Running], budget: int) -> Iterator[Chunk]:
    for slot, sequence in sorted(enumerate(running), key=lambda pair: not pair[1].answer):
        if budget:
            chunk = sequence.next_chunk(slot, budget)
            budget -= len(chunk.tokens)
            yield chunk


def greedy_by_generate(model: PreTrainedModel, prompt: Sequence[int], longest: int) -> list[int]:
    """What `transformers` itself answers to the prompt alone."""
    answer = model.generate(
        torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=longest,
        do_sample=False,
    )
    return answer[0, len(prompt) :].tolist()
