"""Whether a model may be run in steps: asked of the model itself when it is loaded, never looked up by its name.

It says of itself that its attention can be replaced, and then its logits in steps, beside a second sequence, must be those that
`generate` has for each alone. Windows are narrowed for it, so that short prompts reach beyond them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from transformers import PreTrainedModel

from maas.errors import BadArtifact
from maas.runtimes.transformers.cache import KvCache
from maas.runtimes.transformers.step import Piece, StepRunner

_LENGTHS = (21, 9)  # tokens of the golden prompts
_ANSWER = 8  # tokens
_CUT = 13  # where the longer prompt is cut into chunks
_WINDOW = 6
_WINDOWS = ("sliding_window", "attention_chunk_size")
_TOLERANCE = {torch.float32: 1e-3}  # difference of logits as a share of the largest
_REDUCED_TOLERANCE = 5e-2


@dataclass(frozen=True, slots=True)
class Support:
    """What the golden prompts have shown: how far the logits were apart, as a share of the largest, and what a token takes."""

    difference: float
    bytes_per_token: int


def check_support(model: PreTrainedModel, context: int) -> Support:
    """Whether the model runs in steps, with sequences of up to `context` tokens; `BadArtifact` where it does not.

    It attends by ours afterwards.
    """
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise BadArtifact(f"{name} has an encoder; only decoders run in steps")
    if not getattr(model, "_supports_attention_backend", False):
        raise BadArtifact(f"{name} does not let its attention be replaced (`_supports_attention_backend`)")
    _check_context(name, model.config, context)
    try:
        with _narrow_windows(model):
            support = _compare(model)
    except Exception as error:  # the model's own code, which knows nothing of our tree
        raise BadArtifact(f"{name} does not run in steps: {error}") from error
    tolerance = _TOLERANCE.get(model.dtype, _REDUCED_TOLERANCE)
    if not support.difference <= tolerance:  # or it is not a number
        raise BadArtifact(
            f"{name} answers otherwise in steps than by `generate`: its logits differ by {support.difference:.2g} of the "
            f"largest; {tolerance:.2g} is allowed"
        )
    return support


def _check_context(name: str, config: Any, context: int) -> None:
    """Within the positions that it has, and that have the same encoding whatever else is in the step."""
    limit = min((limit for limit in _limits(config) if limit), default=context)
    if context > limit:
        raise BadArtifact(f"a context of {context} tokens is too long for {name}; in steps it has {limit}")


def _limits(config: Any) -> Iterator[int | None]:
    yield getattr(config, "max_position_embeddings", None)
    for rope in _rope_parameters(config):
        if "dynamic" in rope["rope_type"] or rope["rope_type"] == "longrope":
            yield rope.get("original_max_position_embeddings")


def _rope_parameters(config: Any) -> Iterator[Mapping[str, Any]]:
    """Those of the model, or of each type of its layers."""
    parameters = getattr(config, "rope_parameters", None) or {}
    for rope in (parameters, *parameters.values()):
        if isinstance(rope, Mapping) and isinstance(rope.get("rope_type"), str):
            yield rope


@contextmanager
def _narrow_windows(model: PreTrainedModel) -> Iterator[None]:
    """Configuration and layers hold the width each for itself; a layer that forgets to hand it over is found out so."""
    owners = {id(owner): owner for owner in (model.config, model.config.get_text_config(), *model.modules())}
    wide = [
        (owner, name, width)
        for owner in owners.values()
        for name in _WINDOWS
        if isinstance(width := getattr(owner, name, None), int) and width > _WINDOW
    ]
    for owner, name, _ in wide:
        setattr(owner, name, _WINDOW)
    try:
        yield
    finally:
        for owner, name, width in wide:
            setattr(owner, name, width)


def _compare(model: PreTrainedModel) -> Support:
    numbers = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    prompts = [torch.randint(vocabulary, (length,), generator=numbers).tolist() for length in _LENGTHS]
    expected, answers = zip(*[_by_generate(model, prompt) for prompt in prompts], strict=True)
    cache = KvCache(slots=3, context=max(_LENGTHS) + _ANSWER)
    found = _in_steps(StepRunner(model, cache), prompts, answers)
    differences = [
        (one - other).abs().max() / other.abs().max() for one, other in zip(found, expected, strict=True)
    ]
    return Support(float(torch.stack(differences).max()), cache.bytes_per_token)


def _by_generate(model: PreTrainedModel, prompt: Sequence[int]) -> tuple[torch.Tensor, list[int]]:
    """float32[_ANSWER, vocabulary] and the likeliest tokens."""
    ids = torch.tensor([prompt], device=model.device)
    generate: Any = model.generate
    answer = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=_ANSWER,
        min_new_tokens=_ANSWER,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.cat(answer.logits).float(), answer.sequences[0, len(prompt) :].tolist()


def _in_steps(
    runner: StepRunner, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[torch.Tensor]:
    """The same logits, of both sequences beside each other, with an empty slot between them."""
    long = _chunks(2, (prompts[0][:_CUT], prompts[0][_CUT:]), answers[0])
    short = _chunks(0, (prompts[1],), answers[1])
    rows: dict[int, list[torch.Tensor]] = {2: [], 0: []}
    for pair in zip_longest(long, short):
        chunks = [chunk for chunk in pair if chunk is not None]
        wanting = [chunk for chunk in chunks if chunk.wants_logits]
        for chunk, row in zip(wanting, runner.run(chunks), strict=True):
            rows[chunk.slot].append(row)
    return [torch.stack(rows[slot]) for slot in (2, 0)]


def _chunks(slot: int, prompt: Sequence[Sequence[int]], answer: Sequence[int]) -> list[Piece]:
    """The pieces of the prompt, then all of the answer but its last token; the last piece is the first that wants logits."""
    chunks: list[Piece] = []
    start = 0
    for tokens in (*prompt, *([token] for token in answer[:-1])):
        chunks.append(Piece(slot, start, tokens, wants_logits=len(chunks) >= len(prompt) - 1))
        start += len(tokens)
    return chunks
