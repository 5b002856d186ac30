"""YAML as it is read here: safely, each key once, every problem in one line, and every key with the line it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

_MOST_KEYS = 100_000

Path = tuple[str, ...]
"""The keys, and indices of lists, that lead to a value."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> object:
    """Raises `ValueError` in one line for what is no YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        raise ValueError(f"{where}{error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def lines_of(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key and list item of a text that `read_yaml` can read.

    Raises `ValueError` where aliases make a tree of it that holds itself, or that is without measure.
    """
    root = yaml.compose(text, _Loader)
    lines: dict[Path, int] = {}
    for path, line in _lines(root, (), frozenset()):
        lines[path] = line
        if len(lines) > _MOST_KEYS:
            raise ValueError(f"line {line}: there are over {_MOST_KEYS} keys, which is the limit")
    return lines


def _lines(node: yaml.Node | None, path: Path, above: frozenset[int]) -> Iterator[tuple[Path, int]]:
    if isinstance(node, yaml.MappingNode):
        children = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(index), item, item) for index, item in enumerate(node.value)]
    else:
        return
    for name, mark, child in children:
        line = mark.start_mark.line + 1
        if id(child) in above:
            raise ValueError(f"line {line}: an alias stands within what it means")
        yield (*path, name), line
        yield from _lines(child, (*path, name), above | {id(child)})
