"""What is kept of a run, and what a broken-off run leaves."""

import pytest

from bestserve.proxy.quality.ledger import BadLedger, Ledger, Scored, key
from bestserve.proxy.quality.prompts import parse


def scored(name):
    return Scored(name, "p1", "qa", "none", 0.5, False, 12, 1.0, "text\nof two lines")


def prompt(answer="Paris", **more):
    return parse({"id": "a", "task": "qa", "prompt": "Capital?", "check": "exact", "answer": answer, **more})


def test_what_was_added_is_known_again(tmp_path):
    """By the next process too, whatever stands in the text."""
    first = Ledger(tmp_path / "a.jsonl")
    first.add(scored("k1"))
    first.close()

    second = Ledger(tmp_path / "a.jsonl")
    second.close()

    assert second.known == {"k1": scored("k1")}


def test_a_line_that_was_torn_off_is_asked_again(tmp_path):
    """The run goes on after it, and the next one reads what came after."""
    path = tmp_path / "a.jsonl"
    first = Ledger(path)
    first.add(scored("k1"))
    first.add(scored("k2"))
    first.close()
    path.write_bytes(path.read_bytes()[:-30])

    second = Ledger(path)
    second.add(scored("k3"))
    second.close()
    third = Ledger(path)
    third.close()

    assert set(third.known) == {"k1", "k3"}


def test_fresh_forgets(tmp_path):
    """And begins the file anew."""
    first = Ledger(tmp_path / "a.jsonl")
    first.add(scored("k1"))
    first.close()

    second = Ledger(tmp_path / "a.jsonl", fresh=True)
    second.close()

    assert not second.known
    assert (tmp_path / "a.jsonl").read_bytes() == b""


@pytest.mark.parametrize("content", ["hello\n", '{"id": 1}\n', '{"key":"k"}\n'])
def test_another_file_is_refused_before_it_is_written_to(tmp_path, content):
    """With its name and the line; it stays as it was."""
    path = tmp_path / "notes.txt"
    path.write_text(content)

    with pytest.raises(BadLedger, match=r"notes\.txt:1"):
        Ledger(path)
    assert path.read_text() == content


def test_a_question_is_the_same_while_nothing_changes():
    """Another address, another request or another check makes it another one; its difficulty does not."""
    same = key("u", b"body", prompt())

    assert key("u", b"body", prompt(difficulty=5)) == same
    assert len({same, key("v", b"body", prompt()), key("u", b"bodies", prompt()), key("u", b"body", prompt("Rome"))}) == 4
