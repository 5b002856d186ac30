"""The adapters by name."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.torture.adapters.contract import Adapter
from benchmarks.torture.adapters.litserve import LitServe
from benchmarks.torture.adapters.maas import Maas
from benchmarks.torture.adapters.mlserver import MlServer

ADAPTERS: Mapping[str, type[Adapter]] = {each.name: each for each in (Maas, LitServe, MlServer)}
