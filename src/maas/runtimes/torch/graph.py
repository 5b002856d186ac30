"""What the graph of an exported program may say, held against a grammar before torch reads it.

`torch.export.load` (2.13) trusts `models/model.json`: it evaluates symbolic expressions as Python (`sympy.sympify`),
writes names into the source of a function that it executes, and imports the modules that a tree specification
names; and among the operators of aten there are some that open files. So every string of the document is checked by
the key under which it stands: what torch interprets must be of its grammar, what torch only keeps is free, and
everything else is a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from maas.errors import BadArtifact
from maas.types import clip

_WORD = re.compile(r"[\w.]*", re.ASCII)
_IDENTIFIER = re.compile(r"(?!\d)\w*", re.ASCII)

_OPERATOR = re.compile(
    r"torch\.ops\.(aten\.(?!(from_file|save)\b)|prims\.|higher_order\.)\w+(\.\w+)?"
    r"|(_operator|math)\.\w+|torch\.sym_\w+",
    re.ASCII,
)

# The classes that torch writes into symbolic shapes, as `sympy.srepr` shows them.
_EXPRESSION = re.compile(
    r"((Symbol|Integer|Rational|Float|Add|Mul|Pow|Min|Max|Abs|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv"
    r"|FloatTrueDiv|FloatPow|PowByNatural|LShift|RShift|ModularIndexing|Where|Piecewise|ExprCondPair|Identity"
    r"|ToFloat|TruncToFloat|TruncToInt|FloorToInt|CeilToInt|RoundToInt|RoundDecimal|floor|ceiling"
    r"|IsNonOverlappingAndDenseIndicator|And|Or|Not|Equality|Unequality|LessThan|StrictLessThan|GreaterThan"
    r"|StrictGreaterThan)\(|\)|, |'[a-z]+\d+'|'[\d.e+-]+'|-?\d+|true|false"
    r"|(positive|negative|nonnegative|nonpositive|zero|nonzero|integer|real|finite)=(True|False)|precision=\d+)*"
)

_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def check_graph(text: bytes) -> None:
    """Raise `BadArtifact` unless reading the program in `text` runs nothing that its author wrote.

    What is no JSON, or JSON of an unexpected shape, raises whatever that raises.
    """
    _check("", json.loads(text))


def _check(key: str, value: object) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _hold(_is_word(name), "a key", name)
            _check(name, inner)
    elif isinstance(value, list):
        for inner in value:
            _check(key, inner)
    elif isinstance(value, str):
        _hold(_RULES.get(key, _is_word)(value), repr(key), value)


def _hold(is_allowed: bool, what: str, text: str) -> None:
    if not is_allowed:
        raise BadArtifact(f"the program's graph has {clip(text)!r} as {what}, which loading could run")


def _is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


def _is_tree(text: str) -> bool:
    """Whether a tree specification is of plain containers, with words for the keys of its dictionaries."""
    _, root = json.loads(text)
    waiting: list[dict[str, Any]] = [root]
    while waiting:
        node = waiting.pop()
        context = json.loads(node["context"] or "null")
        names = context if isinstance(context, list) else []
        if node["type"] not in _CONTAINERS or not (context is None or isinstance(context, list)):
            return False
        if not all(isinstance(name, (str, int)) and _is_word(str(name)) for name in names):
            return False
        waiting.extend(node["children_spec"])
    return True


def _is_kept(_: str) -> bool:
    """For what torch keeps as text, or quotes wherever it writes it."""
    return True


_RULES: Mapping[str, Callable[[str], bool]] = {
    "name": lambda text: _IDENTIFIER.fullmatch(text) is not None,
    "as_name": lambda text: _IDENTIFIER.fullmatch(text) is not None,
    "target": lambda text: _OPERATOR.fullmatch(text) is not None,
    "as_operator": lambda text: _OPERATOR.fullmatch(text) is not None,
    "expr_str": lambda text: _EXPRESSION.fullmatch(text) is not None,
    "in_spec": _is_tree,
    "out_spec": _is_tree,
    "as_string": _is_kept,
    "as_strings": _is_kept,
    "guards_code": _is_kept,  # run only with `module(check_guards=True)`, which is not done here
    "stack_trace": _is_kept,
    "nn_module_stack": _is_kept,
    "source_fn_stack": _is_kept,
    "torch_fn": _is_kept,
    "custom": _is_kept,
    "from_node": _is_kept,
    "torch_version": _is_kept,
}
