"""The names that generators make classes and functions of: operation ids, and schemas with their titles.

Rules:

1. A name says which model and version it is of, and is the same whatever else is served.
2. But generators drop separators and case, so that `a-b` and `a_b` become one class, and one file. Where that happens each
   of those names has six letters of its own digest behind it: none of them can come to mean another model.
3. A name that begins with a digit, as none may in a program, has the word `model` before it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from maas.models.live import LiveVersion

_LETTERS = 6
KINDS = ("Request", "Response")


@dataclass(frozen=True, slots=True)
class Names:
    """`schema` and `title` are those of a version's schemas, without what of it they are; `operation` is the operation of the
    version, `default_operation` that of its model."""

    schema: str
    title: str
    operation: str
    default_operation: str


def names_of(
    versions: Sequence[LiveVersion], schemas: Iterable[str], operations: Iterable[str]
) -> Mapping[str, Names]:
    """Of all `versions`, by label, none of them like another or like the other `schemas` and `operations` of the document."""
    stems = [name.removesuffix(kind) for name in schemas for kind in KINDS if name.endswith(kind)]
    bases = {live.label: _base(live) for live in versions}
    letters = _letters_where_alike(bases, stems)
    ids = {live.name: f"predict.{live.name}" for live in versions}
    ids |= {label: f"predict-version.{base}" for label, base in bases.items()}
    id_letters = _letters_where_alike(ids, operations)
    return {
        live.label: Names(
            schema=bases[live.label] + _behind(".", letters[live.label]),
            title=f"{_word(live)} {live.version}" + _behind(" ", letters[live.label]),
            operation=ids[live.label] + _behind(".", id_letters[live.label]),
            default_operation=ids[live.name] + _behind(".", id_letters[live.name]),
        )
        for live in versions
    }


def _base(live: LiveVersion) -> str:
    """With the few characters that OpenAPI allows: the one odd run of dots ends the model's name."""
    return f"{_word(live).replace(' ', '-').replace('.', '..')}.{live.version}"


def _word(live: LiveVersion) -> str:
    return f"model {live.name}" if live.name[0].isdigit() else live.name


def _letters_where_alike(names: Mapping[str, str], others: Iterable[str]) -> dict[str, str]:
    """By the key of each of `names`: six letters of the key's own where a generator would take the name for another of them, or for
    one of `others`; else none."""
    alike = Counter(map(_fold, [*names.values(), *others]))
    return {key: _letters_of(key) if alike[_fold(name)] > 1 else "" for key, name in names.items()}


def _fold(name: str) -> str:
    """All that is left of a name in any generator."""
    return "".join(character for character in name.lower() if character.isalnum())


def _letters_of(key: str) -> str:
    digest = hashlib.sha256(key.encode()).digest()
    return "".join(ascii_lowercase[byte % len(ascii_lowercase)] for byte in digest[:_LETTERS])


def _behind(separator: str, letters: str) -> str:
    return f"{separator}{letters}" if letters else ""
