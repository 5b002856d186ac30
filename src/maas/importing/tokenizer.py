"""The tokenizer: byte-level BPE of the file's tokens and merges, as `tokenizer.json` and its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from maas.errors import BadArtifact
from maas.importing.gguf_file import GgufFile

# How text is cut before the merges, by `tokenizer.ggml.pre`: only what the tests hold against known ids.
_PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
}
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """The tokenizer of a file, whose ids are the file's own."""
    tokens = file.list_of("tokenizer.ggml.tokens", str)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise BadArtifact(f"{file.path} has a token twice")
    tokenizer = _byte_level(file, vocabulary)
    tokenizer.add_tokens(_added(file, tokens))
    _add_beginning(file, tokenizer, tokens)
    return tokenizer


def special_ids(file: GgufFile, vocabulary: int) -> dict[str, int]:
    """`bos_token_id` and its like, where the file has them."""
    found = {
        f"{role}_token_id": file.find(f"tokenizer.ggml.{word}_token_id", int) for role, word in _ROLES.items()
    }
    special = {role: number for role, number in found.items() if number is not None}
    if wrong := [role for role, number in special.items() if not 0 <= number < vocabulary]:
        raise BadArtifact(f"{file.path}: {wrong[0]} is {special[wrong[0]]}; it has {vocabulary} tokens")
    return special


def tokenizer_config(file: GgufFile, tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """The contents of `tokenizer_config.json`. The chat template is copied, never run."""
    special = special_ids(file, tokenizer.get_vocab_size())
    template = file.find("tokenizer.chat_template", str)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{role.removesuffix("_id"): tokenizer.id_to_token(number) for role, number in special.items()},
        **({"chat_template": template} if template is not None else {}),
    }


def _byte_level(file: GgufFile, vocabulary: dict[str, int]) -> Tokenizer:
    kind, pre = file.get("tokenizer.ggml.model", str), file.get("tokenizer.ggml.pre", str)
    if kind != "gpt2":
        raise BadArtifact(f"{file.path} has a tokenizer of kind {kind!r}; only 'gpt2' can be imported")
    if pre not in _PRE_TOKENIZERS:
        known = ", ".join(_PRE_TOKENIZERS)
        raise BadArtifact(f"{file.path} has pre-tokenizer {pre!r}; those that can be imported are {known}")
    if file.get("tokenizer.ggml.add_space_prefix", bool, False):
        raise BadArtifact(f"{file.path} puts a space before each text, which cannot be imported")
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=_merges(file, vocabulary)))
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merges(file: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for merge in file.list_of("tokenizer.ggml.merges", str):
        left, _, right = merge.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise BadArtifact(f"{file.path} has merge {merge!r}, which is not of two of its tokens")
        merges.append((left, right))
    return merges


def _added(file: GgufFile, tokens: list[str]) -> list[AddedToken]:
    """What is found in a text before it is cut: control tokens, and those that somebody defined."""
    types = file.list_of("tokenizer.ggml.token_type", int)
    if len(types) != len(tokens):
        raise BadArtifact(f"{file.path} has {len(tokens)} tokens and {len(types)} types of them")
    kinds = (TokenType.CONTROL, TokenType.USER_DEFINED)
    return [
        AddedToken(token, special=kind == TokenType.CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in kinds and token
    ]


def _add_beginning(file: GgufFile, tokenizer: Tokenizer, tokens: list[str]) -> None:
    if file.get("tokenizer.ggml.add_eos_token", bool, False):
        raise BadArtifact(f"{file.path} puts a token after each text, which cannot be imported")
    if file.get("tokenizer.ggml.add_bos_token", bool, False):
        special = special_ids(file, len(tokens))
        if (number := special.get("bos_token_id")) is None:
            raise BadArtifact(f"{file.path} has no key 'tokenizer.ggml.bos_token_id'")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[number]} $A", special_tokens=[(tokens[number], number)]
        )
