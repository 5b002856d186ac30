"""Writing the imported model: a folder that is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from maas.dtypes import DTYPES
from maas.errors import InvalidRequest
from maas.importing.gguf_file import GgufFile
from maas.importing.llama import Llama, read_llama, read_weights
from maas.importing.tokenizer import read_tokenizer, special_ids, tokenizer_config

WEIGHTS = "model.safetensors"

Dtype = Literal["float32", "bfloat16"]


def import_gguf(path: Path, output: Path, dtype: Dtype = "float32") -> Llama:
    """Make the folder `output` of the file at `path`. Raises `BadArtifact` for a file that cannot be imported."""
    if os.path.lexists(output):
        raise InvalidRequest(f"{output} exists; an import makes a new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        model = _write(GgufFile(path), making, dtype)
        making.chmod(0o755)
        (making / WEIGHTS).chmod(0o644)
        making.rename(output)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return model


def _write(file: GgufFile, folder: Path, dtype: Dtype) -> Llama:
    tokenizer = read_tokenizer(file)
    vocabulary = tokenizer.get_vocab_size()
    model, special = read_llama(file, vocabulary), special_ids(file, vocabulary)
    weights = {name: np.ascontiguousarray(w.astype(DTYPES[dtype])) for name, w in read_weights(file, model)}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    _save(folder / "config.json", model.config(dtype, _without_unknown(special)))
    _save(folder / "generation_config.json", _without_unknown(special))
    _save(folder / "tokenizer_config.json", tokenizer_config(file, tokenizer, model.context))
    return model


def _without_unknown(special: dict[str, int]) -> dict[str, int]:
    return {role: number for role, number in special.items() if role != "unk_token_id"}


def _save(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
