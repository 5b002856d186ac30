"""Models of two layers with wide random weights, one for each kind of architecture, so small that a test of all takes seconds.

The weights are wide so that answers vary: a narrow model repeats one token, and equality with it would prove little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 211
WINDOW = 12

_DENSE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "tie_word_embeddings": False,  # a wide model whose ends are tied repeats what it reads
}
_SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 48}

# model type → what its configuration has beside the above
SUPPORTED: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 24},
    "mistral": {"sliding_window": WINDOW},
    "phi3": {},
    "olmo2": {},
    "smollm3": {},
    "granite": {"logits_scaling": 0.5, "attention_multiplier": 0.2},
    "cohere": {},
    "starcoder2": {"sliding_window": WINDOW},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "attn_logit_softcapping": 20.0, "final_logit_softcapping": None, **_SLIDING},
    "gemma3_text": {"head_dim": 16, **_SLIDING},
    "qwen3_moe": {"num_experts": 4, "head_dim": 16, **_EXPERTS},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_neox": {},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "deepseek_v3": {
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 24,
        "kv_lora_rank": 24,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "num_key_value_heads": 4,
        **_EXPERTS,
    },
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **_SLIDING},
}

REFUSED: Mapping[str, Mapping[str, Any]] = {
    "stablelm": {},
    "bloom": {"n_layer": 2, "n_head": 4},
    "falcon": {},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16},
}


def tiny_model(model_type: str, *, width: float = 0.3, **changes: Any) -> PreTrainedModel:
    """The model of that type, its weights drawn from one seed with a deviation of `width`."""
    own = {**SUPPORTED, **REFUSED}.get(model_type, {})
    config = CONFIG_MAPPING[model_type](**{**_DENSE, **own, "initializer_range": width, **changes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # norms and biases too: at one and nought they would hide a mistake
            parameter.add_(torch.randn_like(parameter) * width * 0.3)
    return model
