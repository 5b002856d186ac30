"""The reference page of the configuration, made from the options themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from maas.config import ENVIRONMENT_PREFIX, Configuration, ModelOptions

_HEAD = f"""# Configuration

The effective tree is the defaults, then the file of `--config`, then `{ENVIRONMENT_PREFIX}…` variables, then options of
the command line. A variable is named by its path, as in `{ENVIRONMENT_PREFIX}SERVER__PORT=9000` or
`{ENVIRONMENT_PREFIX}MODELS__digits-cnn__THREADS=2`; its value is read as YAML. An unknown key is refused with its path.

SIGHUP has a running server read all of it again ([operations.md](operations.md)); an option marked with ↻ needs a restart.

`maas config` prints the effective tree, `maas config check FILE` validates a file, and `maas config reference` prints
this page.
"""

# What depends on the machine is said in words, so that the page is the same everywhere.
_DEFAULTS = {"running_batches": "cores"}


def render() -> str:
    """The page as Markdown."""
    tree = Configuration.model_json_schema()
    model = ModelOptions.model_json_schema()
    parts = [_HEAD, *_section("Top level", "", tree["properties"])]
    for name, schema in tree["properties"].items():
        if "$ref" in schema:
            section = tree["$defs"][schema["$ref"].rpartition("/")[2]]
            parts += _section(f"`{name}`", section["description"], section["properties"])
    parts += _section("`models.NAME`", model["description"], model["properties"])
    return "\n".join(parts)


def _section(title: str, description: str, options: dict[str, Any]) -> Iterator[str]:
    yield f"## {title}\n"
    if description:
        yield f"{description}\n"
    yield "| option | default | allowed | what |\n|---|---|---|---|"
    for name, schema in options.items():
        if "$ref" not in schema:
            default = _DEFAULTS.get(name) or f"`{json.dumps(schema.get('default'))}`"
            mark = " ↻" if schema.get("needs_restart") else ""
            yield f"| `{name}`{mark} | {default} | {_allowed(schema)} | {schema['description']} |"
    yield ""


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_allowed(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = {"array": "a list", "object": "a mapping", "boolean": "`true`, `false`", "string": "text"}
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
        if key in schema
    ]
    if "pattern" in schema:
        return f"`{schema['pattern']}`".replace("|", "\\|")
    return ", ".join(bounds) or words.get(schema.get("type", ""), schema.get("type", ""))
