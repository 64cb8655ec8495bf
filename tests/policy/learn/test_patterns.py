"""A grammar file says prompts: slots, branches, literal brackets, and what is wrong with it by line."""

import numpy as np
import pytest

from bestserve.policy.learn.patterns import parse

GRAMMAR = """# a comment
== topic
cats
dogs (and \\sfoxes)
_

== snippet raw
if (a || b) { return; }

== write 300
a poem about {topic}( that rhymes|)
<40> (tweet|haiku)
== code 100
fix (this|that (code|query)):\\n{snippet} {unknown}
"""


def said(task: str, n: int = 300) -> set[tuple[str, int]]:
    rng, grammar = np.random.default_rng(0), parse(GRAMMAR)
    return {grammar.draw(task, rng) for _ in range(n)}


def test_every_choice_is_made():
    """Slots, branches, empty ones, and a pattern's own number of tokens."""
    assert said("write") == {
        ("a poem about cats that rhymes", 300),
        ("a poem about cats", 300),
        ("a poem about dogs (and  foxes) that rhymes", 300),
        ("a poem about dogs (and  foxes)", 300),
        ("a poem about  that rhymes", 300),
        ("a poem about", 300),
        ("tweet", 40),
        ("haiku", 40),
    }


def test_raw_lines_and_unknown_slots_stand_as_they_are():
    """Bars and braces in code are code; inner branches are choices."""
    end = ":\nif (a || b) { return; } {unknown}"

    assert said("code") == {(f"fix {what}{end}", 100) for what in ("this", "that code", "that query")}


def test_the_same_dice_say_the_same():
    """Everything is drawn from the generator that is given."""
    one, two = (parse(GRAMMAR).draw("write", np.random.default_rng(7)) for _ in range(2))

    assert one == two


@pytest.mark.parametrize(("text", "line"), [("hello", 1), ("== a b c\n", 1), ("# x\n\n== \n", 3)])
def test_a_wrong_line_is_named(text, line):
    """By its number."""
    with pytest.raises(ValueError, match=f"line {line}"):
        parse(text)
