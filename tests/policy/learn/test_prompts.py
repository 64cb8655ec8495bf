"""Rows from lines, templates' children, and classes of the operator's own."""

import numpy as np
import orjson
import pytest

from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt
from bestserve.policy.learn import prompts
from bestserve.policy.learn.patterns import parse
from bestserve.policy.learn.prompts import BadRow, Row


def line(**row: object) -> bytes:
    return orjson.dumps({"text": "hello", "task": "chat", **row})


def test_a_line_is_a_row():
    """With what came before, what a reader would also accept, and how long an answer is."""
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi!"}]
    (row,) = prompts.read([line(turns=turns, also=["qa"], tokens=12, lang="de"), b"\n"], "f", TASKS, source="mine")

    assert (row.prompt.text, row.prompt.before, row.prompt.system) == ("hello", "hi", "be kind")
    assert (row.task, row.also, row.tokens, row.lang, row.source) == ("chat", ("qa",), 12, "de", "mine")


def test_label_is_as_good_as_task():
    """And a length alone is something to learn."""
    rows = prompts.read([orjson.dumps({"text": "x", "label": "qa"}), orjson.dumps({"text": "x", "tokens": 3})], "f", TASKS)

    assert [row.task for row in rows] == ["qa", None]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"{", "f:2"),
        (b"[]", "object"),
        (line(text=3), "text"),
        (line(task="poetry"), "poetry"),
        (line(also=["poetry"]), "poetry"),
        (line(tokens=-1), "tokens"),
        (line(tokens=True), "tokens"),
        (line(turns=[{"role": "user"}]), "content"),
        (orjson.dumps({"text": "x"}), "nothing to learn"),
    ],
)
def test_a_wrong_line_is_named(bad, says):
    """By file, line and what is the matter."""
    with pytest.raises(BadRow, match=says) as told:
        prompts.read([line(), bad], "f", TASKS)
    assert str(told.value).startswith("f:2: ")


def test_children_are_drawn_once_each():
    """Of each task as many as were asked for at most, in the file's language."""
    grammar = parse("== topic\na b c\n== write 300\npoem (one|two|three)\n== chat 10\nhi")
    rows = prompts.multiplied({"en": grammar}, {"en": 50}, np.random.default_rng(0))

    assert {row.task for row in rows} == {"write", "chat"}
    assert len({row.prompt.text for row in rows}) == len(rows)
    assert {row.tokens for row in rows} == {300.0, 10.0}
    assert {row.source for row in rows} == {"templates"}


def test_roughening_keeps_the_text_alike():
    """Case, a last mark, one slip; never empty."""
    rng, text = np.random.default_rng(1), "Write a poem about the sea?"
    rough = {prompts.rough(text, rng) for _ in range(200)}

    assert len(rough) > 10
    assert all(abs(len(one) - len(text)) <= 2 for one in rough)
    assert prompts.rough("?", rng)


def test_a_loud_source_is_turned_down():
    """No source counts more for one task than MOST rows; seeds count more than their number."""
    many = [Row(prompts.prompt_of([{"role": "user", "content": str(i)}]), "qa", source="s") for i in range(1000)]
    seed = [Row(many[0].prompt, "qa", source="seeds")]

    told = prompts.weights([*many, *seed])

    assert told[:1000].sum() == pytest.approx(prompts.MOST)
    assert told[1000] == prompts.WEIGHTS["seeds"]


def test_classes_of_ones_own():
    """Added ones are made of built-in tasks by shares; merged ones take their place."""
    classes, into = prompts.made_of(["legal=qa:3,write:1"], ["edit=rewrite,summ"])

    assert classes["legal"] == {"qa": 0.75, "write": 0.25}
    assert classes["edit"] == {"rewrite": 0.5, "summ": 0.5}
    assert "summ" not in classes
    assert into == {"rewrite": "edit", "summ": "edit"}
    row = Row(prompts.prompt_of([{"role": "user", "content": "x"}]), "summ", also=("rewrite", "qa"))
    assert prompts.renamed([row], into)[0] == Row(row.prompt, "edit", also=("edit", "qa"))


@pytest.mark.parametrize(
    "word", ["legal", "legal=", "=qa", "Legal=qa", "legal=poetry", "legal=qa:-1", "legal=qa:x", "qa=code", "legal=qa:inf"]
)
def test_a_class_that_cannot_be_is_refused(word):
    """Naming the word."""
    with pytest.raises(ValueError, match=word.split("=")[0] or "="):
        prompts.made_of([word], [])


def test_a_class_cannot_be_merged_twice():
    """What is gone is gone."""
    with pytest.raises(ValueError, match="summ"):
        prompts.made_of([], ["a=summ,qa", "b=summ,chat"])


def test_rows_without_a_text_are_all_distinct():
    """Of traffic nothing is known but words; and texts stay in the order of their last, with what was said of them first."""
    rows = [Row(Prompt.of("a"), "qa"), Row(Prompt.of(""), None, words=("x",)), Row(Prompt.of("b"), "qa"), Row(Prompt.of("a"), "chat")]
    rows += [Row(Prompt.of(""), None, words=("x",))] * 2

    found = prompts.distinct(rows)

    assert [(row.prompt.text, row.task) for row in found] == [("", None), ("b", "qa"), ("a", "qa"), ("", None), ("", None)]
