"""Lines of the replay log."""

from pathlib import Path

import orjson
import pytest

from bestserve.policy.record import to_bytes
from bestserve.proxy.entries import FORMAT, Around, BadLine, Kept, Lost, Said, parse, read, record_line

from .log_by_hand import AROUND, record

GOLDEN = Path(__file__).parent.parent / "golden" / "log"
WRITER = "host.example-42-0123abcd"


def test_lines_of_every_format_so_far_can_be_read():
    """Envelopes and the Records in them."""
    for path in sorted(GOLDEN.glob("format-*.jsonl")):
        one, two, said, full, killed = [placed.entry for placed in read([path], pytest.fail)]

        assert isinstance(one, Kept)
        assert isinstance(two, Kept)
        assert (one.writer, one.seq, one.decision, one.attempt, one.wall, one.took) == (WRITER, 1, "decision-1", 0, 1_795_000_000.25, 0.5)
        assert (one.around, two.around) == (AROUND, Around(0.25, "anonymous", None, left=True))
        assert two.line().outcome.ending == "abandoned"
        assert said == Said(WRITER, 3, 1_795_000_010.0, "decision-1", "team-a", 0.5)
        assert full == Lost(WRITER, 1_795_000_011.0, 7, "full")
        assert killed == Lost("host.example-41-89abcdef", 1_795_000_011.0, 2, "killed", 11, 12)


def test_there_is_a_golden_file_for_todays_format():
    """A change of the envelope needs a new number and a new file."""
    assert (GOLDEN / f"format-{FORMAT}.jsonl").is_file()


def test_a_bare_record_is_an_entry_too():
    """As simulations write them: nobody's key, and kept for certain."""
    entry = parse(to_bytes(record("d1")))
    assert isinstance(entry, Kept)
    assert (entry.writer, entry.seq, entry.decision, entry.around.odds) == ("", 0, "d1", 1.0)
    assert entry.line().request_id == "request-1"


def test_a_line_that_another_tool_has_written_anew_reads_the_same():
    """With spaces, and its keys in another order."""
    line = record_line(WRITER, 1, record("d1"), AROUND)
    fields = orjson.loads(line)
    shuffled = orjson.dumps(dict(sorted(fields.items(), reverse=True)), option=orjson.OPT_INDENT_2).replace(b"\n", b" ") + b"\n"

    entry, same = parse(line), parse(shuffled)

    assert isinstance(entry, Kept)
    assert isinstance(same, Kept)
    assert same.line().outcome == entry.line().outcome
    assert (same.seq, same.around) == (entry.seq, entry.around)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"not json\n", "is not JSON: .* at character 1"),
        (b"[1]\n", "no attribute"),
        (b'{"kind":"feedback","format":1,"writer":"w","seq":1,"wall":1}\n', "'decision' is missing"),
        (b'{"kind":"gossip","format":1,"writer":"w","seq":1,"wall":1,"decision":"d"}\n', "'gossip' is not a kind of line"),
        (b'{"kind":"record","format":2}\n', "format 2 was written by a newer bestserve; this one reads up to 1: please update"),
        (
            b'{"kind":"feedback","format":1,"writer":"w","seq":1,"wall":1,"decision":"d","key":"k","score":"nan"}\n',
            "score: 'nan' is no number",
        ),
        (b'{"kind":"feedback","format":1,"writer":"w","seq":1,"wall":1,"decision":"d","key":"k","score":1.5}\n', "1.5 is no number"),
        (b'{"schema":99}\n', "schema 99 was written by a newer bestserve"),
    ],
)
def test_a_line_that_is_no_entry_says_why(line, why):
    """In words for whoever has to find it."""
    with pytest.raises(BadLine, match=why):
        parse(line)


def test_what_cannot_be_read_is_told_with_file_and_line_and_passed_over(tmp_path):
    """A torn end is told as such; a file that is not there, too."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(record_line(WRITER, 1, record("d1"), AROUND) + b"junk\n" + record_line(WRITER, 2, record("d2"), AROUND) + b'{"kind')
    problems = []

    found = list(read([path, tmp_path / "gone.jsonl"], problems.append))

    assert [(placed.number, placed.entry.seq) for placed in found] == [(1, 1), (3, 2)]
    assert [(p.path.name, p.line, p.torn) for p in problems] == [("x.jsonl", 2, False), ("x.jsonl", 4, True), ("gone.jsonl", 1, False)]
    assert str(problems[0]).startswith(f"{path}:2: ")
