"""Labelled prompts as rows: one JSON object a line, its templates' children, and what makes them look like traffic."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from bestserve.policy.facts import TASKS
from bestserve.policy.features import HEAD, Prompt

from .patterns import Grammar

MOST = 150
"""Rows of one source and task that count in full. Of more, each counts less, so that no source is louder than this many."""

WEIGHTS = {"seeds": 3.0, "templates": 0.7}
"""What a row of our own counts; any other counts 1 before MOST."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled prompt."""

    prompt: Prompt
    task: str | None  # None where only the length is known
    also: tuple[str, ...] = ()
    tokens: float | None = None  # of a good answer
    lang: str = "en"
    source: str = "data"
    soft: tuple[float, ...] | None = None  # probabilities over the classes, instead of a task
    words: tuple[str, ...] = ()  # what is known of a prompt whose text was not kept


class BadRow(ValueError):
    """A line that is no labelled prompt; the message names file, line and field."""


def read(lines: Iterable[bytes], name: str, tasks: Sequence[str], source: str | None = None) -> list[Row]:
    """Rows of one file. A row's own `source` is kept where it has one. Raises BadRow."""
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(_row(orjson.loads(line), tasks, source or name))
            except (ValueError, TypeError, KeyError) as error:
                raise BadRow(f"{name}:{number}: {error}") from error
    return rows


def _row(raw: Any, tasks: Sequence[str], source: str) -> Row:
    if not isinstance(raw, dict):
        raise TypeError("must be an object")
    task = raw.get("task", raw.get("label"))
    tokens = raw.get("tokens")
    if not isinstance(raw.get("text"), str):
        raise TypeError("text: must be a text")
    for name in (task, *raw.get("also", ())):
        if name is not None and name not in tasks:
            raise ValueError(f"task: {name!r} is none of {', '.join(tasks)}")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int | float) or not tokens > 0):
        raise ValueError(f"tokens: must be a number above 0, is {tokens!r}")
    if task is None and tokens is None:
        raise ValueError("neither task nor tokens: there is nothing to learn")
    prompt = prompt_of([*raw.get("turns", ()), {"role": "user", "content": raw["text"]}])
    return Row(prompt, task, tuple(raw.get("also", ())), tokens, raw.get("lang", "en"), raw.get("source", source))


def prompt_of(messages: Sequence[Mapping[str, str]]) -> Prompt:
    """What is looked at of a conversation whose contents are texts."""
    said = {role: [m["content"] for m in messages if m["role"] == role] for role in ("system", "user")}
    before = said["user"][-2] if len(said["user"]) > 1 else ""
    return Prompt.of(said["user"][-1], before, said["system"][0] if said["system"] else "")


def multiplied(grammars: Mapping[str, Grammar], each: Mapping[str, int], rng: np.random.Generator) -> list[Row]:
    """Children of the templates: of each language so many a task, each once, half of them roughened."""
    rows: dict[tuple[str, str], Row] = {}
    for lang, grammar in grammars.items():
        for task in grammar.tasks:
            for _ in range(each[lang]):
                text, tokens = grammar.draw(task, rng)
                if text:
                    text = rough(text, rng)
                    rows.setdefault((lang, text), Row(Prompt.of(text), task, tokens=float(tokens), lang=lang, source="templates"))
    return list(rows.values())


def rough(text: str, rng: np.random.Generator) -> str:
    """As people type: sometimes without capitals, without the last mark, with a slip of the finger."""
    dice = rng.random(4)
    if dice[0] < 0.25:
        text = text[:HEAD].lower() + text[HEAD:]
    elif dice[0] < 0.45:
        text = text[:1].upper() + text[1:]
    if dice[1] < 0.3:
        text = text.rstrip("?.!。？！।")
    if dice[2] < 0.12 and len(text) > 12:
        at = int(rng.integers(1, min(len(text), 80) - 2))
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :] if dice[3] < 0.5 else text[:at] + text[at + 1 :]
    return text or "?"


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Each text once, the first of them; and all whose texts were not kept."""
    told = [((row.prompt.text, row.prompt.before) if not row.words else i, row) for i, row in enumerate(rows)]
    return list(dict(reversed(told)).values())[::-1]


def weights(rows: Sequence[Row]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """What each row counts, (N,). See MOST and WEIGHTS."""
    many = Counter((row.source, row.task) for row in rows)
    return np.array(
        [WEIGHTS.get(row.source) or min(1.0, MOST / many[row.source, row.task]) for row in rows],
        dtype=np.float32,
    )


def renamed(rows: Iterable[Row], into: Mapping[str, str]) -> list[Row]:
    """The rows with some classes under another name."""
    return [
        replace(row, task=into.get(row.task, row.task) if row.task else None, also=tuple(into.get(a, a) for a in row.also)) for row in rows
    ]


def made_of(added: Sequence[str], merged: Sequence[str]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Classes as they are made of built-in tasks, and what is renamed into what; from words like `legal=qa:0.7,write:0.3` for a class of
    its own and `edit=rewrite,summ` for one that takes the place of several. Raises ValueError."""
    classes: dict[str, dict[str, float]] = {task: {task: 1.0} for task in TASKS}
    into: dict[str, str] = {}
    for word in merged:
        name, tasks = _named(word)
        for task in tasks:
            if task not in classes:
                raise ValueError(f"{word!r}: {task!r} is no class that is left; there are {', '.join(classes)}")
            del classes[task]
            into[task] = name
        classes[name] = {task: 1.0 / len(tasks) for task in tasks}
    for word in added:
        name, parts = _named(word)
        if name in classes:
            raise ValueError(f"{word!r}: {name!r} is there already")
        classes[name] = _shares(word, parts)
    return classes, into


def _named(word: str) -> tuple[str, list[str]]:
    name, equals, parts = word.partition("=")
    if not equals or not _NAME.fullmatch(name) or not parts:
        raise ValueError(f"{word!r} is not like legal=qa:0.7,write:0.3 or edit=rewrite,summ")
    return name, parts.split(",")


def _shares(word: str, parts: Sequence[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in parts:
        task, _, share = part.partition(":")
        if task not in TASKS:
            raise ValueError(f"{word!r}: {task!r} is not a built-in task; there are {', '.join(TASKS)}")
        try:
            shares[task] = float(share or 1.0)
        except ValueError:
            shares[task] = math.nan
        if not shares[task] > 0 or math.isinf(shares[task]):
            raise ValueError(f"{word!r}: {share!r} is not a share above 0")
    total = sum(shares.values())
    return {task: share / total for task, share in shares.items()}


_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

__all__ = ["BadRow", "Row", "distinct", "made_of", "multiplied", "prompt_of", "read", "renamed", "rough", "weights"]
