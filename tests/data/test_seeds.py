"""The seed prompts, file by file: every line is what data/seeds/README.md says, none comes twice, and no task is missing."""

import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

SEEDS = Path(__file__).parent.parent.parent / "data" / "seeds"
FILES = sorted(SEEDS.glob("*.jsonl"))
TASKS = {"code", "math", "qa", "extract", "summ", "rewrite", "translate", "write", "classify", "chat"}
REGISTERS = {"formal", "casual", "terse", "typos", "pasted", "followup", "voice"}
REQUIRED = {"task", "lang", "text", "register", "tokens"}
ALIKE = 0.7  # share of common 5-grams of characters from which two prompts count as one

Seed = dict[str, Any]

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def seeds(path: Path) -> list[Seed]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def said(seed: Seed) -> str:
    """All that was said, without case, signs and spacing: a follow-up is told from its like by what came before."""
    told = [turn["content"] for turn in seed.get("turns", ())] + [seed["text"]]
    return re.sub(r"\W+", " ", " ".join(told).lower()).strip() or " ".join(told)


def grams(text: str, size: int = 5, rows: int = 4096) -> set[int]:
    return {zlib.crc32(text[i : i + size].encode()) % rows for i in range(max(1, len(text) - size + 1))}


def likeness(texts: list[str]) -> np.ndarray:
    """Jaccard index of every pair, above the diagonal."""  # (n, n)
    has = np.zeros((len(texts), 4096), np.float32)
    for row, text in zip(has, texts, strict=True):
        row[list(grams(text))] = 1
    common, size = has @ has.T, has.sum(axis=1)
    return np.triu(common / (size[:, None] + size[None, :] - common), k=1)


def wrong(seed: Seed) -> list[str]:
    """What is the matter with one prompt, in words; nothing if nothing is."""
    fields, also, turns = set(seed), seed.get("also", ["code", "qa"]), seed.get("turns", [{"role": "user", "content": "x"}])
    if not fields >= REQUIRED or not fields <= REQUIRED | {"turns", "also"}:
        return [f"fields {sorted(fields)}"]
    checks = {
        "task": seed["task"] in TASKS,
        "lang": re.fullmatch("[a-z]{2}", seed["lang"]) is not None,
        "text": isinstance(seed["text"], str) and seed["text"].strip() != "",
        "register": seed["register"] in REGISTERS,
        "tokens": type(seed["tokens"]) is int and 0 < seed["tokens"] <= 8192,
        "also": "also" not in seed or (also != [] and set(also) <= TASKS - {seed["task"]}),
        "turns": turns != [] and all(set(t) == {"role", "content"} and t["role"] in ("system", "user", "assistant") for t in turns),
        "follow-up": seed["register"] != "followup" or "turns" in seed,
    }
    return [name for name, right in checks.items() if not right]


def test_there_are_seeds():
    """The other tests have something to look at."""
    assert FILES


@each_file
def test_every_line_is_a_prompt_with_its_task(path):
    """Fields, their types and their values are those of the README."""
    bad = [(number, faults) for number, seed in enumerate(seeds(path), start=1) if (faults := wrong(seed))]
    assert bad == []


def test_no_prompt_comes_twice_in_any_file():
    """Case, signs and spacing aside, all prompts of all files differ."""
    counts = Counter(said(seed) for path in FILES for seed in seeds(path))
    assert [text for text, count in counts.items() if count > 1] == []


@each_file
def test_no_prompt_is_another_one_slightly_changed(path):
    """Two prompts of a file share less than most of their letters' sequences."""
    texts = [said(seed) for seed in seeds(path)]
    pairs = [(texts[i], texts[j]) for i, j in np.argwhere(likeness(texts) >= ALIKE)]
    assert pairs == []


@each_file
def test_every_task_has_its_share_in_every_language(path):
    """Of each task there are between half and twice as many prompts as of the tasks on average."""
    counts: dict[str, Counter[str]] = {}
    for seed in seeds(path):
        counts.setdefault(seed["lang"], Counter())[seed["task"]] += 1
    for lang, tasks in counts.items():
        mean = tasks.total() / len(TASKS)
        odd = {task: tasks[task] for task in TASKS if not mean / 2 <= tasks[task] <= mean * 2}
        assert odd == {}, lang
