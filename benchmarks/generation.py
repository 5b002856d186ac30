"""Generation in steps over slots, against batches padded on the left and against one request at a time.

    python -m benchmarks.generation [--rounds 3] [--json FILE]

A model of the Llama shape with 8 million random parameters, in this process with one thread. Static batches are `generate`
over 16 requests in the order of their arrival, where all wait for the longest prompt and the longest answer. Ours
are planned by the scheduler over 16 slots, with up to 256 tokens a step.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table, ratio_cell
from transformers import LlamaConfig, LlamaForCausalLM

from maas.generation.job import Job, Token
from maas.generation.limits import Limits
from maas.generation.scheduler import Scheduler
from maas.runtimes.transformers.cache import KvCache
from maas.runtimes.transformers.step import StepRunner

VOCABULARY = 4096
SLOTS = 16
BUDGET = 256
CONTEXT = 1056


@dataclass(frozen=True, slots=True)
class Request:
    prompt: Sequence[int]
    longest: int


def requests(count: int, longest_prompt: int, spread: Callable[[random.Random, int], int]) -> list[Request]:
    """Prompts of 8 to `longest_prompt` tokens, answers of 8 to 128."""
    numbers = random.Random(6)
    lengths = [(spread(numbers, longest_prompt), spread(numbers, 128)) for _ in range(count)]
    return [Request([numbers.randrange(VOCABULARY) for _ in range(p)], a) for p, a in lengths]


def uniform(numbers: random.Random, most: int) -> int:
    return numbers.randint(8, most)


def log_uniform(numbers: random.Random, most: int) -> int:
    return round(math.exp(numbers.uniform(math.log(8), math.log(most))))


def in_steps(model: LlamaForCausalLM, asked: Sequence[Request]) -> None:
    runner = StepRunner(model, KvCache(SLOTS, CONTEXT))
    limits = Limits(CONTEXT, SLOTS, VOCABULARY)
    scheduler = Scheduler(limits, eos=frozenset(), token_budget=BUDGET, max_waiting=len(asked))
    for request in asked:
        scheduler.submit(Job(request.prompt, max_new=request.longest))
    while not scheduler.is_idle:
        plan = scheduler.plan(0.0)
        for copy in plan.copies:
            runner.cache.copy(copy.source, copy.target, copy.length)
        likeliest = runner.run(plan.chunks).argmax(-1).tolist()
        scheduler.complete([Token(token) for token in likeliest])


def in_batches(model: LlamaForCausalLM, asked: Sequence[Request], size: int) -> None:
    model.set_attn_implementation("sdpa")
    for first in range(0, len(asked), size):
        batch = asked[first : first + size]
        width = max(len(request.prompt) for request in batch)
        padding = [width - len(request.prompt) for request in batch]
        ids = torch.tensor([[0] * pad + list(r.prompt) for pad, r in zip(padding, batch, strict=True)])
        seen = torch.arange(width)[None] >= torch.tensor(padding)[:, None]
        longest = max(request.longest for request in batch)
        model.generate(ids, attention_mask=seen.long(), max_new_tokens=longest, do_sample=False)


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    tokens = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    return LlamaForCausalLM(LlamaConfig(**shape, **heads, **tokens)).eval()


def tokens_per_second(run: Callable[[], None], asked: Sequence[Request]) -> float:
    started = time.process_time()
    run()
    return sum(request.longest for request in asked) / (time.process_time() - started)


def main() -> None:
    options = arguments(__doc__, rounds=3, seconds=0.0).parse_args()
    torch.set_num_threads(1)
    model = llama()
    loads = {
        "16 × 8–256": requests(16, 256, uniform),
        "48 × 8–900": requests(48, 900, log_uniform),
    }
    ways = {
        "steps over slots": partial(in_steps, model),
        "static batches": partial(in_batches, model, size=SLOTS),
        "one at a time": partial(in_batches, model, size=1),
    }
    turns = {way: partial(turn, run, loads) for way, run in ways.items()}
    rounds = interleave(turns, options.rounds)
    table = new_table("generation", ["", *(head for load in loads for head in (load, "× one at a time"))])
    for way, measured in rounds.items():
        base = rounds["one at a time"]
        pairs = [(cell([m[load] for m in measured]), ratio_cell(measured, base, load)) for load in loads]
        table.rows.append([way, *(text for pair in pairs for text in pair)])
    table.notes.append(
        "tokens that were asked for, by second of processor time; prompts uniform, then log-uniform"
    )
    table.notes.extend(f"{load}: {describe(asked)}" for load, asked in loads.items())
    finish(table, options.json)


def turn(run: Callable[[Sequence[Request]], None], loads: Mapping[str, Sequence[Request]]) -> Measured:
    return {load: tokens_per_second(partial(run, asked), asked) for load, asked in loads.items()}


def describe(asked: Sequence[Request]) -> str:
    read, written = sum(len(r.prompt) for r in asked), sum(r.longest for r in asked)
    return f"{read:,} tokens of prompts, {written:,} of answers"


if __name__ == "__main__":
    main()
