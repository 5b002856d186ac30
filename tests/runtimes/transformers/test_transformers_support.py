"""Whether a model runs in steps is found out by asking it, and one that would answer wrongly is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.runtimes.transformers.models import REFUSED, SUPPORTED, WINDOW, tiny_model
from transformers import PreTrainedModel

from maas.errors import BadArtifact
from maas.runtimes.transformers import attention
from maas.runtimes.transformers.support import check_support


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_supported_architectures_have_the_logits_of_generate(model_type: str) -> None:
    """Their logits agree to the precision of float32, and what a token takes in the cache is known."""
    support = check_support(tiny_model(model_type), context=64)
    assert support.difference < 1e-5
    assert support.bytes_per_token > 0


@pytest.mark.parametrize("model_type", REFUSED)
def test_model_that_keeps_its_attention_is_refused(model_type: str) -> None:
    """A model that does not say that its attention can be replaced is refused, with that word."""
    with pytest.raises(BadArtifact, match="does not let its attention be replaced"):
        check_support(tiny_model(model_type), context=64)


LIARS: dict[str, dict[str, Any]] = {
    **{model_type: {} for model_type in REFUSED},
    "lfm2": {"layer_types": ["conv", "full_attention"]},  # looks along the row by a convolution
    "llama4_text": {
        "num_local_experts": 2,
        "head_dim": 16,
        "attention_chunk_size": 64,
    },  # its chunks are in its mask only
    "doge": {},  # makes a mask of its own
}


@pytest.mark.parametrize("model_type", LIARS)
def test_model_that_says_so_wrongly_is_found_out(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model's word is not true, its answer to the golden prompts is another, and it is refused."""
    model = tiny_model(model_type, **LIARS[model_type])
    monkeypatch.setattr(type(model), "_supports_attention_backend", True, raising=False)
    with pytest.raises(BadArtifact, match="in steps"):
        check_support(model, context=64)


@pytest.mark.parametrize(
    ("model_type", "forgotten"),
    [("mistral", "sliding_window"), ("gemma2", "softcap"), ("gpt_oss", "s_aux"), ("granite", "scaling")],
)
def test_what_a_layer_forgets_to_hand_over_is_found_out(
    model_type: str, forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window, cap, sink or scale that does not reach our attention shows in the answers, though the window is wide."""

    def forgetful(*tensors: Any, **rule: Any) -> Any:
        assert rule.pop(forgotten) is not None
        return attention.attend_in_slots(*tensors, **rule)

    model = tiny_model(model_type, **({"sliding_window": 200} if model_type == "mistral" else {}))
    registered: Any = attention.AttentionInterface._global_mapping
    monkeypatch.setitem(registered, attention.ATTENTION, forgetful)
    with pytest.raises(BadArtifact, match="answers otherwise in steps"):
        check_support(model, context=64)


def test_windows_are_as_wide_afterwards_as_before() -> None:
    """The check narrows the windows of configuration and layers, and gives them back."""
    model = tiny_model("gemma3_text")
    check_support(model, context=64)
    held = [module.sliding_window for module in model.modules() if hasattr(module, "sliding_window")]
    assert model.config.sliding_window == WINDOW
    assert WINDOW in held
    assert set(held) <= {WINDOW, None}


def longrope() -> PreTrainedModel:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 128, **factors}
    return tiny_model("phi3", rope_parameters=rope, original_max_position_embeddings=128)


def test_context_is_no_longer_than_the_positions_that_a_model_has() -> None:
    """Learned positions end somewhere, and a position beyond them would raise in the middle of a step."""
    check_support(tiny_model("gpt2"), context=256)
    with pytest.raises(BadArtifact, match="257 tokens is too long for GPT2LMHeadModel; in steps it has 256"):
        check_support(tiny_model("gpt2"), context=257)


def test_context_ends_where_an_encoding_would_depend_on_the_longest_sequence() -> None:
    """Such an encoding changes for all that are in a step when one of them grows long, so none may."""
    check_support(longrope(), context=128)
    with pytest.raises(BadArtifact, match="129 tokens is too long for Phi3ForCausalLM; in steps it has 128"):
        check_support(longrope(), context=129)


def test_numbers_of_two_bytes_are_given_their_precision() -> None:
    """A model in bfloat16 is held to what bfloat16 can, and its cache takes half."""
    wide, narrow = tiny_model("llama"), tiny_model("llama").to(torch.bfloat16)
    assert check_support(narrow, 64).bytes_per_token * 2 == check_support(wide, 64).bytes_per_token


def test_answers_that_are_not_numbers_are_refused() -> None:
    """A model whose weights overflow has no logits that could agree."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("inf"))
    with pytest.raises(BadArtifact, match="differ by nan"):
        check_support(model, context=64)
