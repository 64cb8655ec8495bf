"""Prompt sets: JSONL files, a prompt a line. Those in `sets/` ship with the package, one file a task; anybody may bring their own.

    {"id": "math-07", "task": "math", "difficulty": 2, "prompt": "What is 17 * 23?", "check": "number", "answer": 391}

`prompt` is a text, or a list of messages with role and content. `check` and what goes with it: checks.py. `difficulty` is from 1 (the
smallest model can) to 5 (the largest may not). `sample`, optional, is an answer that deserves full marks; the tests hold the shipped
checks to it. docs/quality.md describes all of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import orjson

from bestserve.profiles import TASKS

from .checks import Checked, read

SETS = Path(__file__).with_name("sets")
KEYS = ("id", "task", "prompt", "difficulty", "sample")
ROLES = ("system", "user", "assistant")


class BadPrompt(ValueError):
    """A row that cannot be used; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt and how its answer is checked."""

    id: str
    task: str
    messages: tuple[dict[str, str], ...]
    difficulty: int
    check: Checked
    sample: str | None = None


def shipped(tasks: Iterable[str] = TASKS) -> list[Prompt]:
    """The prompts that come with the package, for these tasks."""
    return [prompt for task in tasks for prompt in load(SETS / f"{task}.jsonl")]


def load(path: Path) -> list[Prompt]:
    """The prompts of a file. Raises BadPrompt at the first row that is wrong."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadPrompt(f"{path}: {error.strerror}") from error
    prompts, seen = [], dict[str, int]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = parse(_object(line))
        except ValueError as error:
            raise BadPrompt(f"{path}:{number}: {error}") from error
        if prompt.id in seen:
            raise BadPrompt(f"{path}:{number}: id: {prompt.id!r} stands in line {seen[prompt.id]} already")
        seen[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise BadPrompt(f"{path}: holds no prompt")
    return prompts


def parse(row: dict[str, Any]) -> Prompt:
    """One row. Raises ValueError that names the field."""
    for key in ("id", "task", "prompt"):
        if key not in row:
            raise ValueError(f"{key}: is missing")
    difficulty = row.get("difficulty", 3)
    if isinstance(difficulty, bool) or difficulty not in (1, 2, 3, 4, 5):
        raise ValueError(f"difficulty: must be a whole number from 1 to 5, is {difficulty!r}")
    return Prompt(
        id=_text(row, "id"),
        task=_task(_text(row, "task")),
        messages=tuple(_messages(row["prompt"])),
        difficulty=difficulty,
        check=read({key: value for key, value in row.items() if key not in KEYS}),
        sample=_text(row, "sample") if "sample" in row else None,
    )


def select(prompts: Sequence[Prompt], per_task: int | None) -> list[Prompt]:
    """At most so many of each task, spread evenly over difficulty and always the same, tasks in the order of TASKS."""
    by_task: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda p: p.difficulty):
        by_task[prompt.task].append(prompt)
    return [prompt for task in TASKS for prompt in _spread(by_task[task], per_task)]


def _spread(prompts: list[Prompt], most: int | None) -> Iterator[Prompt]:
    n = len(prompts)
    if most is None or most >= n:
        yield from prompts
        return
    for i in range(most):
        yield prompts[(2 * i + 1) * n // (2 * most)]


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError("must be an object")  # noqa: TRY004  a row of a file, not an argument
    return row


def _text(row: dict[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key}: must be a text that is not empty")
    return value


def _task(name: str) -> str:
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        raise ValueError(f"task: {name!r} is not one of {', '.join(TASKS)}" + (f"; did you mean {near[0]}?" if near else ""))
    return name


def _messages(prompt: object) -> Iterator[dict[str, str]]:
    """A text is one message of the user; else messages, the last of them the user's."""
    rows = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(rows, list) or not rows:
        raise ValueError("prompt: must be a text or a list of messages")
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != {"role", "content"} or row["role"] not in ROLES:
            raise ValueError(f"prompt.{i}: must have a role ({', '.join(ROLES)}) and a content, and nothing else")
        if not isinstance(row["content"], str) or not row["content"].strip():
            raise ValueError(f"prompt.{i}.content: must be a text that is not empty")
        yield row
    if rows[-1]["role"] != "user":
        raise ValueError("prompt: the last message must be the user's")
