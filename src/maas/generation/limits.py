"""What one loaded model can take. A job that passes here cannot raise inside a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maas.generation.job import Job
from maas.generation.refusals import is_integer, refuse, shown

TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Limits:
    """`context` is the most tokens of prompt and answer together, `slots` the most jobs at once; ids are below `vocabulary`."""

    context: int
    slots: int
    vocabulary: int

    def check(self, job: Job) -> None:
        """Raise `InvalidRequest` where the model cannot take `job`."""
        self._check_length(job)
        self._check_ids("prompt", job.prompt)
        self._check_ids("logit_bias", tuple(job.sampling.logit_bias))
        least, most = job.sampling.min_tokens, self.longest_answer(job)
        if least > most:
            refuse("min_tokens", f"min_tokens is {least}; the answer may have {most} tokens")

    def longest_answer(self, job: Job) -> int:
        """Tokens that the answer may have."""
        room = self.context - len(job.prompt)
        return room if job.max_new is None else min(job.max_new, room)

    def _check_length(self, job: Job) -> None:
        prompt, answer = len(job.prompt), job.max_new or 1
        if not prompt:
            refuse("prompt", "the prompt is empty; it must have at least one token")
        if prompt >= self.context:
            refuse(
                "prompt",
                f"the prompt has {prompt} tokens; the context has {self.context}, one of them for the answer",
                code=TOO_LONG,
            )
        if prompt + answer > self.context:
            refuse(
                "max_tokens",
                f"the prompt has {prompt} tokens and max_tokens is {answer}; the context has {self.context}",
                code=TOO_LONG,
            )

    def _check_ids(self, field: str, ids: Sequence[object]) -> None:
        for token in ids:
            if not is_integer(token) or not 0 <= token < self.vocabulary:
                refuse(
                    field, f"{field} has the token {shown(token)}; ids are integers below {self.vocabulary}"
                )
