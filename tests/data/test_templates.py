"""The templates, file by file: they can be read, have every task, and every slot that they name."""

import re
from pathlib import Path

import numpy as np
import pytest

from bestserve.policy.facts import TASKS
from bestserve.policy.learn.patterns import Grammar, parse

FILES = sorted((Path(__file__).parent.parent.parent / "data" / "templates").glob("*.txt"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def grammar(path: Path) -> Grammar:
    return parse(path.read_text(encoding="utf-8"))


def test_ten_languages_are_there():
    """Those of the seeds."""
    assert {path.stem for path in FILES} == {"ar", "de", "en", "es", "fr", "hi", "ja", "pt", "ru", "zh"}


@each_file
def test_every_task_is_there(path):
    """And none that does not exist."""
    assert set(grammar(path).tasks) == set(TASKS)


@each_file
def test_every_slot_is_there(path):
    """A slot that is named has lines, and one that has lines is named."""
    said = grammar(path)
    texts = [p.text for patterns in said.tasks.values() for p in patterns]
    texts += [line for name, lines in said.slots.items() if name not in said.raw for line in lines]
    named = {name for text in texts for name in re.findall(r"\{([^\W\d]\w*)\}", text) if name.isidentifier() and len(name) > 1}

    assert set(said.slots) <= {name for text in texts for name in re.findall(r"\{([^\s{}|()]+)\}", text)}
    assert {name for name in named if name not in said.slots} == set()


@each_file
def test_no_bracket_is_left_open(path):
    """Which would be said as it stands."""
    for patterns in grammar(path).tasks.values():
        for pattern in patterns:
            assert pattern.text.count("(") <= pattern.text.count(")"), pattern.text


@each_file
def test_children_differ(path):
    """Of each task, most of fifty."""
    rng, said = np.random.default_rng(0), grammar(path)
    for task in TASKS:
        assert len({said.draw(task, rng)[0] for _ in range(50)}) > 30, task
