"""The machine, as far as it decides how fast a model runs: what a measurement was made on, and where it holds."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

_NAME = re.compile(r"^(?:model name|Processor|CPU part)\s*:\s*(.+)$", re.MULTILINE)
_FLAGS = re.compile(r"^(?:flags|Features)\s*:\s*(.+)$", re.MULTILINE)

# Instructions for many numbers at once, or for small ones, as Linux calls them.
_FEATURES = {
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"),
    *("asimddp", "bf16", "i8mm", "sve", "sve2"),
}


class Machine(BaseModel):
    """Two machines that are equal here run a model alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    cores: int = Field(ge=1)
    features: tuple[str, ...] = ()


@cache
def this_machine() -> Machine:
    """The machine that this process runs on."""
    return describe(_processors(), os.cpu_count() or 1)


def describe(processors: str, cores: int) -> Machine:
    """From the text of `/proc/cpuinfo`, where the first processor speaks for all."""
    name, flags = _NAME.search(processors), _FLAGS.search(processors)
    features = _FEATURES.intersection(flags[1].split() if flags else ())
    return Machine(
        cpu=name[1].strip() if name else platform.machine(), cores=cores, features=tuple(sorted(features))
    )


def _processors() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
