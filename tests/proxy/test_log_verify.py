"""Whether a log is whole."""

import gzip

import orjson

from bestserve.policy.record import SCHEMA
from bestserve.proxy.entries import Lost, feedback_line, lost_line, record_line
from bestserve.proxy.log_verify import verify

from .log_by_hand import AROUND, record


def lines(*numbers: int, writer: str = "w") -> bytes:
    return b"".join(record_line(writer, n, record(f"d{n}"), AROUND) for n in numbers)


def found(folder, *contents: bytes):
    paths = []
    for i, content in enumerate(contents):
        paths.append(folder / f"{i}.jsonl")
        paths[-1].write_bytes(content)
    return verify(paths)


def wrong(findings):
    return [(problem.path.name, problem.line) for problem in findings.problems]


def test_a_whole_log_is_ok(tmp_path):
    """Numbers go on over files; several writers mix; the beginning may have been removed by a limit."""
    found_ = found(tmp_path, lines(7, 8) + lines(1, writer="v"), feedback_line("w", 9, wall=1, decision="d", key="k", score=1) + lines(10))
    assert found_.ok
    assert found_.plain() == {
        "ok": True,
        "files": 2,
        "writers": 2,
        "records": 4,
        "feedback": 1,
        "lost": {},
        "torn": [],
        "problems": [],
    }


def test_a_torn_end_is_told_and_no_fault(tmp_path):
    """It is what a kill leaves."""
    found_ = found(tmp_path, lines(1) + b'{"kind":"record"')
    assert found_.ok
    assert [(p.path.name, p.line) for p in found_.torn] == [("0.jsonl", 2)]


def test_a_missing_segment_shows_in_the_numbers(tmp_path):
    """At the line that comes after it."""
    found_ = found(tmp_path, lines(1, 2), lines(5, 6))
    assert wrong(found_) == [("1.jsonl", 1)]
    assert "lines 3 to 4 of w are missing" in str(found_.problems[0])


def test_what_the_log_says_is_lost_is_accounted_for(tmp_path):
    """Wherever it says so, and whoever: told twice, it counts once."""
    told = lost_line(Lost("w", 1.0, 2, "vanished", 3, 4))
    found_ = found(tmp_path, lines(1, 2), lines(5, 6), told + lines(1, writer="v") + told + lost_line(Lost("v", 1.0, 3, "full")))
    assert found_.ok
    assert found_.lost == {"vanished": 2, "full": 3}


def test_a_line_twice_is_found(tmp_path):
    """As when a segment was copied under another name."""
    assert wrong(found(tmp_path, lines(1, 2), lines(1, 2))) == [("1.jsonl", 1), ("1.jsonl", 2)]


def test_each_bad_line_is_named(tmp_path):
    """Not JSON, no Record, a Record without the digest of its Observation, and one of a newer version."""
    no_digest = orjson.loads(lines(3))
    no_digest["record"]["decision"]["digest"] = ""
    newer = lines(4).replace(b'"schema":%d' % SCHEMA, b'"schema":99')
    content = b"junk\n" + lines(1) + lines(2).replace(b'"outcome":{', b'"outcom":{') + orjson.dumps(no_digest) + b"\n" + newer
    assert wrong(found(tmp_path, content)) == [("0.jsonl", 1), ("0.jsonl", 3), ("0.jsonl", 4), ("0.jsonl", 5)]


def test_a_broken_compression_is_named(tmp_path):
    """With the line that it came to; the other files are read all the same."""
    path, other = tmp_path / "x.jsonl.gz", tmp_path / "y.jsonl"
    path.write_bytes(gzip.compress(lines(1, 2, 3))[:-8])
    other.write_bytes(lines(1, writer="v"))
    found_ = verify([path, other])
    assert [problem.path for problem in found_.problems] == [path]
    assert found_.records >= 1
