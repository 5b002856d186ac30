"""A model of the llama architecture: the configuration and the weights as `transformers` names and orders them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from maas.errors import BadArtifact
from maas.importing.gguf_file import GgufFile

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Llama:
    """What the keys of a file say of its model."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    rope_theta: float
    norm_epsilon: float
    has_tied_embeddings: bool

    def config(self, dtype: str, special: dict[str, int]) -> dict[str, Any]:
        """The contents of `config.json`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "max_position_embeddings": self.context,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.norm_epsilon,
            "tie_word_embeddings": self.has_tied_embeddings,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "dtype": dtype,
            **special,
        }


def read_llama(file: GgufFile, vocabulary: int) -> Llama:
    """The model of a file whose tokenizer has `vocabulary` tokens."""
    if (architecture := file.get("general.architecture", str)) != "llama":
        raise BadArtifact(f"{file.path} is of architecture {architecture!r}; only 'llama' can be imported")
    _refuse_scaled_rope(file)
    hidden, heads = file.get("llama.embedding_length", int), file.get("llama.attention.head_count", int)
    kv_heads = file.get("llama.attention.head_count_kv", int, heads)
    if min(hidden, heads, kv_heads) < 1 or heads % kv_heads:
        raise BadArtifact(f"{file.path}: {hidden} wide with {heads} heads and {kv_heads} of keys is no model")
    return Llama(
        layers=file.get("llama.block_count", int),
        hidden=hidden,
        intermediate=file.get("llama.feed_forward_length", int),
        heads=heads,
        kv_heads=kv_heads,
        head_size=_head_size(file, hidden // heads),
        vocabulary=vocabulary,
        context=file.get("llama.context_length", int),
        rope_theta=_shortest(file.get("llama.rope.freq_base", float, 10000.0)),
        norm_epsilon=_shortest(file.get("llama.attention.layer_norm_rms_epsilon", float)),
        has_tied_embeddings="output.weight" not in file.tensor_names,
    )


def read_weights(file: GgufFile, model: Llama) -> Iterator[tuple[str, Array]]:
    """The weights, one after the other. A tensor that has no place here is refused before any is read."""
    shapes = _shapes(model, len(file.tensor_names))
    if unknown := sorted(file.tensor_names - set(shapes)):
        raise BadArtifact(f"{file.path} has tensor {unknown[0]!r}, which this import does not know")
    for source, (name, shape) in shapes.items():
        tensor = file.tensor(source, shape)
        if source.endswith(("attn_q.weight", "attn_k.weight")):
            tensor = _halves(tensor, shape[0] // model.head_size)
        yield name, tensor


def _halves(weight: Array, heads: int) -> Array:
    """Undo the interleaving: GGUF rotates neighbouring rows of a head, `transformers` the two halves of it."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _shapes(model: Llama, tensors: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight by its name in the file."""
    if not 0 < model.layers <= tensors:
        raise BadArtifact(f"{model.layers} layers do not fit a file of {tensors} tensors")
    wide, query, keys = model.hidden, model.heads * model.head_size, model.kv_heads * model.head_size
    top = {
        "token_embd.weight": ("model.embed_tokens.weight", (model.vocabulary, wide)),
        "output_norm.weight": ("model.norm.weight", (wide,)),
    }
    if not model.has_tied_embeddings:
        top["output.weight"] = ("lm_head.weight", (model.vocabulary, wide))
    layer = {
        "attn_norm": ("input_layernorm", (wide,)),
        "attn_q": ("self_attn.q_proj", (query, wide)),
        "attn_k": ("self_attn.k_proj", (keys, wide)),
        "attn_v": ("self_attn.v_proj", (keys, wide)),
        "attn_output": ("self_attn.o_proj", (wide, query)),
        "ffn_norm": ("post_attention_layernorm", (wide,)),
        "ffn_gate": ("mlp.gate_proj", (model.intermediate, wide)),
        "ffn_up": ("mlp.up_proj", (model.intermediate, wide)),
        "ffn_down": ("mlp.down_proj", (wide, model.intermediate)),
    }
    blocks = {
        f"blk.{number}.{source}.weight": (f"model.layers.{number}.{name}.weight", shape)
        for number in range(model.layers)
        for source, (name, shape) in layer.items()
    }
    return {**top, **blocks}


def _head_size(file: GgufFile, default: int) -> int:
    """Elements of a head, which must all be rotated, in keys and values alike."""
    size = file.get("llama.attention.key_length", int, default)
    others = ("llama.attention.value_length", "llama.rope.dimension_count")
    if not size or size % 2 or any(file.get(key, int, size) != size for key in others):
        raise BadArtifact(
            f"{file.path} has heads of which not all elements are rotated, or of odd or unlike lengths"
        )
    return size


def _refuse_scaled_rope(file: GgufFile) -> None:
    scaling = file.get("llama.rope.scaling.type", str, "none")
    if scaling != "none":
        raise BadArtifact(f"{file.path} scales its rotary embedding ({scaling!r}), which cannot be imported")


def _shortest(value: float) -> float:
    """The number that was meant by one that went through float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
