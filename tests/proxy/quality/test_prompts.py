"""Prompt files: what is read, what is refused and how it is told, and which prompts are taken."""

import json

import pytest

from bestserve.profiles import TASKS
from bestserve.proxy.quality.prompts import BadPrompt, load, parse, select

ROW = {"id": "a", "task": "qa", "prompt": "Capital of France?", "check": "contains", "answer": ["Paris"], "difficulty": 2}


def row(**changes):
    return {**ROW, **changes}


def test_a_prompt_is_one_message_or_several():
    """A text is the user's; messages stay as they are."""
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

    assert parse(ROW).messages == ({"role": "user", "content": "Capital of France?"},)
    assert parse(row(prompt=turns)).messages == tuple(turns)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row(task="maths"), "task: 'maths' is not one of .*did you mean math"),
        (row(difficulty=9), "difficulty: must be a whole number from 1 to 5, is 9"),
        (row(difficulty=True), "difficulty"),
        (row(prompt=""), "prompt: must be a text or|prompt.0.content: must be a text"),
        (row(prompt=[]), "prompt: must be a text or a list of messages"),
        (row(prompt=[{"role": "assistant", "content": "x"}]), "the last message must be the user's"),
        (row(prompt=[{"role": "usr", "content": "x"}]), "prompt.0: must have a role"),
        (row(id=7), "id: must be a text"),
        ({k: v for k, v in ROW.items() if k != "id"}, "id: is missing"),
        (row(chek="x"), "chek: Extra inputs"),
        (row(answer="Paris"), "answer: Input should be a valid list"),
    ],
)
def test_a_bad_row_is_told_by_file_line_and_field(tmp_path, bad, why):
    """The line is counted with the empty ones before it."""
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(row(id="first")) + "\n\n" + json.dumps(bad) + "\n")

    with pytest.raises(BadPrompt, match=rf"mine\.jsonl:3: .*({why})"):
        load(file)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "mine.jsonl:1: not JSON"),
        ("[1]", "mine.jsonl:1: must be an object"),
        ("", "holds no prompt"),
        (json.dumps(ROW) + "\n" + json.dumps(ROW), "mine.jsonl:2: id: 'a' stands in line 1 already"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, content, why):
    """Not JSON, not objects, nothing at all, or twice the same id."""
    file = tmp_path / "mine.jsonl"
    file.write_text(content)

    with pytest.raises(BadPrompt, match=why):
        load(file)
    with pytest.raises(BadPrompt, match="No such file"):
        load(tmp_path / "other.jsonl")


def test_a_selection_is_spread_over_difficulty():
    """Three of thirty: an easy one, one in the middle, a hard one; always the same ones, tasks in their order."""
    many = [parse(row(id=f"{task}-{i}", task=task, difficulty=1 + i // 6)) for task in reversed(TASKS) for i in range(30)]

    few = select(many, 3)

    assert [p.task for p in few] == [task for task in TASKS for _ in range(3)]
    assert [p.difficulty for p in few[:3]] == [1, 3, 5]
    assert few == select(many, 3)
    assert len(select(many, None)) == len(select(many, 99)) == len(many)
