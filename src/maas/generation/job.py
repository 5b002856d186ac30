"""One sequence to be generated: what is asked, what each step gives, and why it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from maas.errors import MaasError
from maas.generation.refusals import check_integer, refuse, shown
from maas.generation.sampling import Sampling
from maas.generation.stops import check_stops

_MOST = 2**31 - 1


class Finish(StrEnum):
    """Why an answer is complete: its model, or a stop string, ended it; or it is as long as it may be."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """`prompt` are token ids. The answer has at most `max_new` tokens (None: what the context leaves). `deadline` is in monotonic
    seconds; the lower `priority` goes first. Every job is itself alone, whatever it asks.

    Raises `InvalidRequest`; whether a model can take it is for that model's `Limits`.
    """

    prompt: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    max_new: int | None = None
    stop: tuple[str, ...] = ()
    deadline: float = math.inf
    priority: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, tuple | list):
            refuse("prompt", f"the prompt is {shown(self.prompt)}; it must be a list of token ids")
        object.__setattr__(self, "prompt", tuple(self.prompt))
        if self.max_new is not None:
            check_integer("max_tokens", self.max_new, 1, _MOST)
        object.__setattr__(self, "stop", check_stops(self.stop))


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was chosen; with `logprobs` its own and those of the alternatives, by id, the likeliest first."""

    id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompt, those of them whose keys and values were copied (`cached`), and those of the answer so far."""

    prompt: int
    cached: int
    generated: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one step gave a job. `finish` says why it is the last one: an answer that is complete, or an error; None if more comes."""

    job: Job
    tokens: tuple[Token, ...]
    usage: Usage
    finish: Finish | MaasError | None = None
