"""`docs/config.md`, printed from the fields of the config's dataclasses."""

from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from typing import Any

from msgspec import UNSET

from .config import BudgetConfig, Cap, Config
from .config_rules import Maybe, Rows, Rule, Section, Setting, Table, settings

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


def markdown() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_section(path, section) for path, section in _sections("", Config))])


def _sections(path: str, section: type) -> Iterator[tuple[str, type]]:
    """A section and those inside it, each with its dotted path."""
    yield path, section
    for setting in settings(section):
        for inner, its_section in _inside(f"{path}.{setting.name}".lstrip("."), setting.rule):
            yield from _sections(inner, its_section)


def _inside(path: str, rule: Rule) -> Iterator[tuple[str, type]]:
    match rule:
        case Section():
            yield path, rule.type
        case Cap():
            yield path, BudgetConfig
        case Maybe():
            yield from _inside(path, rule.rule)
        case Rows():
            yield from _inside(f"{path}[]", rule.rule)
        case Table():
            yield from _inside(f"{path}.{rule.of.upper()}", rule.rule)


def _section(path: str, section: type) -> str:
    title = f"## `{path}`" if path else "## The keys on top"
    return f"{title}\n\n{section.__doc__}\n\n{_COLUMNS}" + "".join(_row(setting) for setting in settings(section))


def _row(setting: Setting) -> str:
    cells = (f"`{setting.name}`", setting.rule.kind, _default(setting.default), setting.doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _default(value: Any) -> str:
    if value is MISSING:
        return "**required**"
    if value is UNSET:
        return "unset"
    if value is None or value == ():
        return "none"
    if is_dataclass(value) or value == {}:
        return "see below" if value else "empty"
    return f"`{_written(value)}`"


def _written(value: Any) -> str:
    """As YAML has it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(budget.name for budget in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)
