"""Tiny models of the llama architecture as GGUF files, and a plain BPE to hold tokenizers against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import regex
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {"gpt-2": [GPT2], "smollm": [r"\p{N}", GPT2]}  # each cuts what the one before has left

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "Ġ the", "Ġ a", "1 2", "12 3", "Ġ Ġ", "ĠĠ Ġ", "Ã ©", "' s", "a b"]
TOKENS = [*SPECIAL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"

HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 16

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama(tied: bool = True) -> LlamaForCausalLM:
    """A model with random weights, whose keys and values have half as many heads as its queries."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=HEADS * HEAD_SIZE,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model


def write(
    path: Path,
    model: LlamaForCausalLM,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    merges: Sequence[str] = MERGES,
) -> Path:
    """The model as a GGUF file, its matrices stored as `kind`. `change` adds to it at the end."""
    writer = gguf.GGUFWriter(path, architecture)
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _write_tokenizer(writer, pre, merges)
    for name, weight in _named(model):
        stored = kind if weight.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(weight, stored), raw_dtype=stored)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_tokenizer(writer: gguf.GGUFWriter, pre: str, merges: Sequence[str]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)


def _named(model: LlamaForCausalLM) -> list[tuple[str, np.ndarray]]:
    """The weights by GGUF's names, queries and keys with each head's two halves interleaved."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    found = [
        ("token_embd.weight", state["model.embed_tokens.weight"]),
        ("output_norm.weight", state["model.norm.weight"]),
    ]
    if not model.config.tie_word_embeddings:
        found.append(("output.weight", state["lm_head.weight"]))
    for number in range(model.config.num_hidden_layers):
        for name, theirs in _LAYER.items():
            weight = state[f"model.layers.{number}.{theirs}.weight"]
            if name in ("attn_q", "attn_k"):
                weight = interleaved(weight)
            found.append((f"blk.{number}.{name}.weight", weight))
    return found


def interleaved(weight: np.ndarray) -> np.ndarray:
    """Row 2i of a head is row i of its first half, row 2i + 1 row i of its second."""
    half = HEAD_SIZE // 2
    rows = [
        start + i + offset
        for start in range(0, len(weight), HEAD_SIZE)
        for i in range(half)
        for offset in (0, half)
    ]
    return np.ascontiguousarray(weight[rows])


def plain_bpe(text: str, tokens: Sequence[str], merges: Sequence[str], pre: str) -> list[int]:
    """The ids of a text without special tokens, by the definition of BPE: the earliest merge first."""
    ids, ranks = {token: i for i, token in enumerate(tokens)}, {merge: i for i, merge in enumerate(merges)}
    pieces = [text]
    for pattern in PATTERNS[pre]:
        pieces = [cut for piece in pieces for cut in _cut(pattern, piece)]
    return [ids[part] for piece in pieces for part in _merge(piece, ranks)]


def _cut(pattern: str, text: str) -> list[str]:
    """What matches, and what is between."""
    return [piece for piece in regex.split(f"({pattern})", text) if piece]


def _merge(piece: str, ranks: dict[str, int]) -> list[str]:
    parts = [byte_letters()[byte] for byte in piece.encode()]
    while pairs := [
        (ranks[f"{a} {b}"], i) for i, (a, b) in enumerate(pairwise(parts)) if f"{a} {b}" in ranks
    ]:
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


@cache
def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte: itself where it is printed, else one from 256 on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(256 + i) for i, byte in enumerate(others)}
