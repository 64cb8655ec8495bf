"""Sentence patterns -> labelled prompts. A small grammar in a text file, one per language (data/templates).

    == topic            a slot: each line is one of its values
    == snippet raw      a slot whose lines are taken as they stand
    == write 380        the patterns of a task, and the tokens that its answers usually have
    <60> a poem about {topic}( that rhymes|)

`{slot}` takes a line of that slot and `(a|b|)` one branch; both may hold each other. A bracket without a bar is a bracket. `_` is an empty
line; `\\n`, `\\t`, `\\s` and `\\\\` are a new line, a tab, a space and a backslash.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_HEAD = re.compile(r"== (\S+)(?: (raw|\d+))?$")
_OWN = re.compile(r"<(\d+)> ")
_SLOT = re.compile(r"\{([^\s{}|()]+)\}")
_ESCAPED = re.compile(r"\\([nts\\])")
_PLAIN = {"n": "\n", "t": "\t", "s": " ", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a task: what is said, and how many tokens its answer has."""

    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """What one file says."""

    slots: Mapping[str, tuple[str, ...]]
    raw: frozenset[str]
    tasks: Mapping[str, tuple[Pattern, ...]]

    def draw(self, task: str, rng: np.random.Generator) -> tuple[str, int]:
        """A prompt of a task, and the tokens that its answer has."""
        patterns = self.tasks[task]
        pattern = patterns[rng.integers(len(patterns))]
        return self._said(pattern.text, rng).strip(), pattern.tokens

    def _said(self, text: str, rng: np.random.Generator) -> str:
        """A text with one choice made at each bracket and slot."""
        out, i = [], 0
        while i < len(text):
            slot = _SLOT.match(text, i)
            if slot and slot[1] in self.slots:
                out.append(self._slot(slot[1], rng))
                i = slot.end()
            elif text[i] == "(" and (end := _closing(text, i)):
                branches = _branches(text[i + 1 : end])
                said = self._said(branches[rng.integers(len(branches))], rng)
                out.append(said if len(branches) > 1 else f"({said})")
                i = end + 1
            else:
                out.append(text[i])
                i += 1
        return "".join(out)

    def _slot(self, name: str, rng: np.random.Generator) -> str:
        value = self.slots[name][rng.integers(len(self.slots[name]))]
        return value if name in self.raw else self._said(value, rng)


def parse(text: str) -> Grammar:
    """Read a file. Raises ValueError naming the line."""
    slots: dict[str, list[str]] = {}
    tasks: dict[str, list[Pattern]] = {}
    raw: set[str] = set()
    name, kind = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("== "):
            name, kind = _section(line, number)
            if kind == "raw":
                raw.add(name)
        elif not name:
            raise ValueError(f"line {number}: stands before the first section")
        elif kind.isdigit():
            tasks.setdefault(name, []).append(_pattern(line, int(kind)))
        else:
            slots.setdefault(name, []).append("" if line == "_" else _plain(line))
    return Grammar({n: tuple(v) for n, v in slots.items()}, frozenset(raw), {n: tuple(v) for n, v in tasks.items()})


def _section(line: str, number: int) -> tuple[str, str]:
    head = _HEAD.match(line)
    if head is None:
        raise ValueError(f"line {number}: {line!r} is not `== name`, `== name raw` or `== task tokens`")
    return head[1], head[2] or ""


def _pattern(line: str, usual: int) -> Pattern:
    own = _OWN.match(line)
    return Pattern(int(own[1]) if own else usual, _plain(line[own.end() :] if own else line))


def _plain(line: str) -> str:
    return _ESCAPED.sub(lambda m: _PLAIN[m[1]], line)


def _closing(text: str, begin: int) -> int | None:
    """Where the bracket that opens at `begin` closes."""
    depth = 0
    for i in range(begin, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return None


def _branches(text: str) -> list[str]:
    """Split at the bars that stand in no inner bracket."""
    pieces, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += sign
    return pieces
