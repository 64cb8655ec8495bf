"""`docs/config.md`, printed from the schema of the config's models."""

from collections.abc import Iterator
from typing import Any

from .config import Config
from .config_words import SAYS

_HEAD = """\
# The config file

Printed from `proxy/config.py` by `proxy/config_docs.py`; do not edit it by hand. An example with comments is
[`deploy/bestserve.example.yaml`](../deploy/bestserve.example.yaml).

The file is YAML. A key that is not listed here is refused, with the nearest right one; every mistake in a file is reported at once,
each with its line. `none` and `null` mean the same. Paths start at the folder of the file.

`${NAME}` stands for an environment variable that must be set, `${NAME:-default}` for one that may be unset or empty, `$${` for the
characters `${`. Between braces or brackets YAML wants them in quotes: `{port: "${PORT}"}`.
"""


_COLUMNS = """\
| key | may be | default | meaning |
| --- | --- | --- | --- |
"""

Schema = dict[str, Any]


def markdown() -> str:
    """The whole page."""
    whole = Config.model_json_schema()
    return "\n".join([_HEAD, *_sections("", whole, whole["$defs"])])


def _sections(path: str, schema: Schema, known: Schema) -> Iterator[str]:
    """A section and those inside it."""
    title = f"## `{path}`" if path else "## The keys on top"
    rows = "".join(_row(name, key, name in schema.get("required", ())) for name, key in schema["properties"].items())
    yield f"{title}\n\n{schema['description']}\n\n{_COLUMNS}{rows}"
    for name, key in schema["properties"].items():
        for inner, section in _inside(f"{path}.{name}".lstrip("."), key):
            yield from _sections(inner, known[section.removeprefix("#/$defs/")], known)


def _inside(path: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """The sections that a key may hold, each with its path."""
    if "$ref" in schema:
        yield path, schema["$ref"]
    if "items" in schema:
        yield from _inside(f"{path}[]", schema["items"])
    if "additionalProperties" in schema:
        yield from _inside(f"{path}.{path.rpartition('.')[2].removesuffix('s').upper()}", schema["additionalProperties"])
    for either in schema.get("anyOf", ()):
        yield from _inside(path, either)


def _row(name: str, schema: Schema, required: bool) -> str:
    cells = (f"`{name}`", _kind(schema), "**required**" if required else _default(schema), schema["description"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


_TYPES = {"boolean": "true or false", "integer": "whole number", "null": "none", "number": "number"}


def _kind(schema: Schema) -> str:
    match schema:
        case {"kind": str(kind)}:
            return kind
        case {"anyOf": [*either]}:
            return "; or ".join(map(_kind, either))
        case {"enum": [*words]}:
            return " or ".join(f"`{word}`" for word in words)
        case {"const": word}:
            return f"`{word}`"
        case {"pattern": str(pattern)}:
            return SAYS[pattern]
        case {"items": dict(item)}:
            return f"list of: {_kind(item)}"
        case {"minimum": least, "maximum": most, "type": str(number)}:
            return f"{_TYPES[number]}, {least:.16g} to {most:.16g}"
    return _mapping(schema) or _TYPES[str(schema["type"])]


def _mapping(schema: Schema) -> str:
    match schema:
        case {"$ref": _}:
            return "mapping"
        case {"propertyNames": {"enum": [*names]}, "additionalProperties": dict(value)}:
            return f"mapping from {', '.join(names)} to: {_kind(value)}"
        case {"patternProperties": values}:
            return "".join(f"mapping from {SAYS[names]} to: {_kind(value)}" for names, value in values.items())
    return ""


def _default(schema: Schema) -> str:
    if "$ref" in schema:
        return "see below"
    match schema.get("default", "unset"):
        case None | []:
            return "none"
        case ("unset" | {}) as word:
            return word or "empty"
        case [None]:
            return "`[none]`"
        case float(number):
            return f"`{number:.12g}`"
        case value:
            return f"`{str(value).lower() if isinstance(value, bool) else value}`"
