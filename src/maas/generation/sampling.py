"""How one request's tokens are chosen. What exists here cannot make a sampler raise.

Ranges are those of OpenAI's API, and narrower where arithmetic needs it: no quotient of a logit by what is allowed here is infinite.
What depends on the model, such as ids within its vocabulary, is checked by `Limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from maas.generation.refusals import check_integer, check_number, is_integer, refuse, shown

MAX_BIASES = 300
MAX_LOGPROBS = 20
_MOST = 2**31 - 1
_SEEDS = 2**64
_LEAST_SEED = -(2**63)
_LEAST_TEMPERATURE = 1e-5  # below it the highest logit is chosen: a quotient would overflow

_NUMBERS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 100.0),
}
_INTEGERS = {"top_k": (-1, _MOST), "min_tokens": (0, _MOST)}


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy. A `top_k` of 0 or -1 is all. `presence_penalty` and `frequency_penalty` count the answer's tokens,
    `repetition_penalty` the prompt's too. `logit_bias` is added by token id. No token that ends the answer is chosen among its first
    `min_tokens`, and with `ignore_eos` none ends it. `logprobs` asks for those of the chosen tokens and so many alternatives.

    Raises `InvalidRequest` for a field that is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _NUMBERS.items():
            object.__setattr__(self, name, check_number(name, getattr(self, name), low, high))
        for name, (least, most) in _INTEGERS.items():
            check_integer(name, getattr(self, name), least, most)
        if self.seed is not None:
            check_integer("seed", self.seed, _LEAST_SEED, _LEAST_SEED + _SEEDS - 1)
        if self.logprobs is not None:
            check_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if not isinstance(self.ignore_eos, bool):
            refuse("ignore_eos", f"ignore_eos is {shown(self.ignore_eos)}; it must be true or false")
        object.__setattr__(self, "logit_bias", _check_biases(self.logit_bias))

    @property
    def is_greedy(self) -> bool:
        return self.temperature < _LEAST_TEMPERATURE

    def of_choice(self, index: int) -> Sampling:
        """That of the answer `index` out of several to one request: each has a seed of its own."""
        if self.seed is None:
            return self
        return replace(self, seed=(self.seed + index - _LEAST_SEED) % _SEEDS + _LEAST_SEED)


def _check_biases(biases: object) -> dict[int, float]:
    if not isinstance(biases, Mapping):
        refuse("logit_bias", f"logit_bias is {shown(biases)}; it must map token ids to numbers")
    if len(biases) > MAX_BIASES:
        refuse("logit_bias", f"logit_bias has {len(biases)} entries; at most {MAX_BIASES} are allowed")
    for token in biases:
        if not is_integer(token) or token < 0:
            refuse("logit_bias", f"logit_bias names the token {shown(token)}; ids are integers from 0")
    return {token: check_number("logit_bias", bias, -100.0, 100.0) for token, bias in biases.items()}
