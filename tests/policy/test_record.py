"""Records and their lines."""

from pathlib import Path

import orjson
import pytest

from bestserve.policy import encode
from bestserve.policy.decide import decide
from bestserve.policy.encode import observe
from bestserve.policy.fleet import Fleet
from bestserve.policy.record import SCHEMA, BadRecord, Record, from_bytes, to_bytes
from tests.policy.facts_by_hand import LADDER, ask, chooser, outcome
from tests.with_compiler import needs_compiler

GOLDEN = Path(__file__).parent.parent / "golden" / "records"


def record() -> Record:
    view = Fleet(LADDER).view(12.5)
    made, _ = decide(ask(session="ab12"), view, chooser("deadline-greedy"), draw=0.25, id="decision-1")
    return Record("request-1", 0, 1_795_000_000.25, "live", ask(session="ab12"), view, made, outcome())


def test_a_line_reads_back_as_what_was_written():
    """Ask and Outcome come back equal; view and decision as plain facts."""
    line = from_bytes(to_bytes(record()))

    assert line.ask == ask(session="ab12")
    assert line.outcome == outcome()
    assert line.request_id == "request-1"
    assert line.decision["action"] == {"backend": "large", "budget": None}
    assert line.decision["propensity"] == 1.0
    assert line.view["report_age_s"] == [None, None, None]


def test_a_record_is_one_line_of_json():
    """Newline at the end and nowhere else, whatever the facts."""
    line = to_bytes(record())
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["schema"] == SCHEMA


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.stem)
def test_lines_of_every_schema_so_far_can_be_read(path):
    """A log can be read forever."""
    lines = [from_bytes(line) for line in path.read_bytes().splitlines()]
    assert len(lines) == 2
    assert {line.decision["policy"] for line in lines} == {"deadline-greedy"}


def test_what_was_paid_is_told_in_every_line_since_there_was_a_price():
    """A line of schema 1 cost nothing; today's says what it cost."""
    assert [from_bytes(line).outcome.usd for line in (GOLDEN / "schema-1.jsonl").read_bytes().splitlines()] == [0.0, 0.0]
    assert [from_bytes(line).outcome.usd for line in (GOLDEN / "schema-2.jsonl").read_bytes().splitlines()] == [0.0, 0.0015]


def test_a_signal_is_told_in_every_line_since_there_were_some():
    """Lines before schema 3 have none, and today's only where the operator wanted it."""
    told = {n: [from_bytes(line).signal for line in (GOLDEN / f"schema-{n}.jsonl").read_bytes().splitlines()] for n in (1, 2, 3)}

    assert told[1] == told[2] == [None, None]
    assert told[3][0] is None
    assert (told[3][1]["rows"], told[3][1]["fence"], told[3][1]["tokens"]) == ([3, 17, 2040], True, 40)


def test_the_floor_of_exploration_is_told_since_schema_4():
    """Before, it is not known; 0 says that nothing was explored."""
    told = {n: [from_bytes(line).decision["floor"] for line in (GOLDEN / f"schema-{n}.jsonl").read_bytes().splitlines()] for n in (1, 3, 4)}
    assert told == {1: [None, None], 3: [None, None], 4: [0.0, 0.0025]}


def test_what_is_being_written_is_told_since_schema_5():
    """Before, nobody looked; such a line is read as if nothing were, and can still be encoded."""
    before, today = ([from_bytes(line) for line in (GOLDEN / f"schema-{n}.jsonl").read_bytes().splitlines()] for n in (4, 5))
    assert {tuple(line.view[name]) for line in before for name in ("haste", "worth", "writing", "written", "writing_s")} == {
        (0.0, 0.0, 0.0)
    }
    assert {line.decision["encoder"] for line in before} == {2}
    assert observe(before[0].seen).mask == before[0].decision["mask"]
    assert [line.view["writing"] for line in today] == [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert today[1].view["written"] == [0.0, 0.0, 3.0]
    assert today[1].view["writing_s"] == [0.0, 0.0, 0.5]
    assert today[1].view["worth"] == [0.0, 0.0, pytest.approx(0.8)]
    assert today[1].view["haste"][2] == 1.0 / today[0].decision["expected_tokens"]


def test_there_is_a_golden_file_for_todays_schema():
    """A new schema comes with its own."""
    assert (GOLDEN / f"schema-{SCHEMA}.jsonl").is_file()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "JSONDecodeError"),
        (b'{"schema": 1', "JSONDecodeError"),
        (b"[]", "AttributeError"),
        (b"{}", "not a schema number"),
        (b'{"schema": 99}', "please update"),
        (b'{"schema": 1}', "decision"),
    ],
)
def test_a_line_that_is_no_record_says_why(line, why):
    """Never another error than BadRecord."""
    with pytest.raises(BadRecord, match=why):
        from_bytes(line)


def test_what_was_encoded_can_be_encoded_again_to_the_bit():
    """The facts in the line give the digest that stands in it: skew can be counted."""
    line = from_bytes(to_bytes(record()))
    assert line.seen is not None
    assert observe(line.seen).digest() == line.decision["digest"] == record().decision.digest


@needs_compiler
def test_what_was_encoded_is_encoded_again_by_compiled_code():
    """A log is read in a fraction of the time: nothing in what is read back is left to plain Python."""
    assert encode.quick is not None
    assert encode.quick.fill(from_bytes(to_bytes(record())).seen) is not None


def test_a_line_of_schema_1_does_not_pretend_to_hold_what_was_encoded():
    """It can be counted and shown, not encoded again."""
    assert from_bytes((GOLDEN / "schema-1.jsonl").read_bytes().splitlines()[0]).seen is None
