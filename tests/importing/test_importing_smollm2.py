"""A real model, SmolLM2-135M-Instruct in Q4_1, imported and asked. `make models` fetches it and runs this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.importing import smollm2
from tests.importing.llamas import plain_bpe
from tests.importing.test_importing_gguf import TEXTS
from transformers import AutoModelForCausalLM, AutoTokenizer

from maas.importing.folder import import_gguf
from maas.importing.gguf_file import GgufFile

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("imported") / "smollm2"
    import_gguf(smollm2.fetch(), output)
    return output


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def test_it_knows_the_capital_of_france(folder: Path, tokenizer: Any) -> None:
    """Plain `generate`, greedy, continues a sentence as only rightly ordered weights can."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=8)[0, prompt.input_ids.shape[1] :]
    assert tokenizer.decode(answer).startswith(" Paris")


def test_its_tokenizer_gives_the_files_ids(tokenizer: Any) -> None:
    """Ids are those of a plain BPE over the file's 49152 tokens and 48900 merges, and decode to the text."""
    file = GgufFile(smollm2.fetch())
    tokens, merges = (file.list_of(f"tokenizer.ggml.{name}", str) for name in ("tokens", "merges"))
    texts = [*TEXTS, Path(smollm2.__file__).read_text(encoding="utf-8")]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert ids == plain_bpe(text, tokens, merges, "smollm"), text
        assert tokenizer.decode(ids) == text


def test_its_chat_template_marks_turns_by_control_tokens(tokenizer: Any) -> None:
    """A turn begins with the id of `<|im_start|>` and ends with that of `<|im_end|>`, which ends generation too."""
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    ids = tokenizer(chat).input_ids
    assert (ids.count(1), ids.count(2), tokenizer.eos_token_id) == (2, 2, 2)
    assert tokenizer.decode(ids) == chat
