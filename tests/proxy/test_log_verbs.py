"""`bestserve log`, as it is typed."""

import csv
import gzip
import re
import sys
import time
from pathlib import Path

import duckdb
import orjson
import pytest
from click.testing import CliRunner

from bestserve.policy.facts import Ending
from bestserve.proxy.cli import main
from bestserve.proxy.entries import Around, Lost, feedback_line, lost_line, record_line
from bestserve.proxy.log_row import COLUMNS
from bestserve.proxy.segments import zstd

from .log_by_hand import AROUND, record

NOW = time.time()
DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def folder(tmp_path):
    """Six records of three writers, an opinion, and a loss: packed both ways, and open."""
    at = [NOW - seconds for seconds in (90_000, 600, 500, 400)]
    one = [
        record_line("h-1-0000000a", 1, record("d1", wall=at[0]), Around(1.0, "team-a", "p1", left=False)),
        record_line("h-1-0000000a", 2, record("d2", wall=at[1]), Around(0.5, "team-a", "p2", left=False)),
        record_line("h-1-0000000a", 3, record("d3", wall=at[2]), Around(1.0, "team-a", "p2", left=False)),
    ]
    two = [
        record_line("h-2-0000000b", 1, record("d4", wall=at[3], ending=Ending.ABANDONED), Around(1.0, "team-b", None, left=True)),
        feedback_line("h-2-0000000b", 2, wall=NOW - 300, decision="d3", key="team-a", score=0.75),
        lost_line(Lost("h-2-0000000b", NOW, 4, "full")),
        record_line("h-2-0000000b", 3, record("d5", wall=NOW), AROUND),
    ]
    log = tmp_path / "log"
    log.mkdir()
    (log / "20261122T080000000Z-h-1-0000000a-000001.jsonl.gz").write_bytes(gzip.compress(b"".join(one)))
    (log / "20261122T090000000Z-h-2-0000000b-000001.open.jsonl").write_bytes(b"".join(two) + b'{"kind":"rec')
    three = record_line("h-3-0000000c", 1, record("d0", wall=NOW - 100_000), AROUND)
    (log / "20261122T070000000Z-h-3-0000000c-000001.jsonl.zst").write_bytes(zstd().compress(three))
    (log / "secret").write_text("not a segment")
    return log


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["log", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


def as_json(*words: object, code: int = 0) -> dict | list:
    return orjson.loads(run(*words, "--json", code=code))


def test_show_lists_the_latest(folder):
    """One line each, with what came of it."""
    said = run("show", folder)
    assert [line.split()[2] for line in said.splitlines()[1:]] == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert [line.split()[2] for line in run("show", folder, "-n", 2).splitlines()[1:]] == ["d4", "d5"]
    d2, d3, d4 = said.splitlines()[3:6]
    assert "retried" in d2
    assert "0.75" in d3
    assert "abandoned" in d4
    assert "left" in d4


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--key", "team-b"], ["d4"]),
        (["--ending", "abandoned"], ["d4"]),
        (["--backend", "large", "--key", "team-a"], ["d0", "d1", "d2", "d3", "d5"]),
        (["--backend", "none"], []),
        (["--decision", "d2"], ["d2"]),
        (["--decision", "d2.0123456789abcdef"], ["d2"]),
        (["--since", "1h"], ["d2", "d3", "d4", "d5"]),
        (["--since", "1h", "--key", "team-b"], ["d4"]),
    ],
)
def test_show_finds_what_is_asked_for(folder, words, shown):
    """By decision (as a client has it, too), key, backend, ending and time."""
    assert [row["decision"] for row in as_json("show", folder, *words)] == shown


def test_show_whole_gives_the_record(folder):
    """All that was recorded, for people and for programs."""
    assert '"probabilities"' in run("show", folder, "--decision", "d1", "--whole")
    (row,) = as_json("show", folder, "--decision", "d1", "--whole")
    assert row["record"]["decision"]["id"] == "d1"


def test_stats_counts(folder):
    """Records and what came of them, feedback, signals, losses."""
    said = as_json("stats", folder)
    assert {name: said[name] for name in ("records", "files", "writers", "feedback", "lost", "scored", "mean_score", "kept_by_coin")} == {
        "records": 6,
        "files": 3,
        "writers": 3,
        "feedback": 1,
        "lost": {"full": 4},
        "scored": 1,
        "mean_score": 0.75,
        "kept_by_coin": 1,
    }
    assert said["ending"] == {"done": 5, "abandoned": 1}
    assert said["signals"] == {"cut": 0, "left": 1, "retried": 1}
    assert as_json("stats", folder, "--since", "1h")["records"] == 4
    assert "done 5" in run("stats", folder)


def test_verify_says_ok_and_what_is_torn(folder):
    """Exit code 0."""
    said = run("verify", folder)
    assert said.splitlines()[-1] == "ok"
    assert "torn" in said
    assert as_json("verify", folder)["lost"] == {"full": 4}


def test_verify_names_file_and_line_of_what_is_wrong(folder):
    """Exit code 1, also with --json; the other verbs go on without it, and say so."""
    path = folder / "20261122T100000000Z-h-4-0000000d-000001.jsonl"
    path.write_bytes(record_line("h-4-0000000d", 1, record("d6", wall=NOW), AROUND) + b"junk\n")
    assert f"problem  {path}:2: is not JSON" in run("verify", folder, code=1)
    assert as_json("verify", folder, code=1)["problems"][0]["line"] == 2
    shown = CliRunner().invoke(main, ["log", "show", str(folder), "--json"])
    assert f"passed over: {path}:2: " in shown.stderr
    assert len(orjson.loads(shown.stdout)) == 7


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_export_writes_a_flat_table(folder, tmp_path, name):
    """The same rows either way; Parquet with the types that it says."""
    out = tmp_path / name
    assert as_json("export", folder, "--out", out, "--since", "1h")["rows"] == 4

    rows = duckdb.sql(f"SELECT decision, cut, \"left\", score, total_s, budget FROM '{out}' ORDER BY time").fetchall()

    assert rows == [
        ("d2", False, False, None, 0.5, None),
        ("d3", False, False, 0.75, 0.5, None),
        ("d4", False, True, None, 0.5, None),
        ("d5", False, False, None, 0.5, None),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", name]
    if name.endswith(".parquet"):
        kinds = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{out}')").fetchall())
        assert kinds == COLUMNS
    else:
        with out.open() as file:
            assert next(csv.reader(file)) == list(COLUMNS)


def test_parquet_without_its_library_says_which_extra_brings_it(folder, tmp_path, monkeypatch):
    """And CSV needs none."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert "pip install 'bestserve[export]'" in run("export", folder, "--out", tmp_path / "rows.parquet", code=1)
    run("export", folder, "--out", tmp_path / "rows.csv")


def test_the_directory_may_come_from_the_config(folder, tmp_path):
    """And what is wrong with it, or lacks, is said in a sentence."""
    config = tmp_path / "bestserve.yaml"
    config.write_text("backends: [{name: a, url: 'http://h:1', model: m, profile: qwen3-1.7b-h100}]\nreplay: {dir: log}\n")
    assert as_json("stats", "--config", config)["records"] == 6
    config.write_text("backends: [{name: a, url: 'http://h:1', model: m, profile: qwen3-1.7b-h100}]\n")
    assert "keeps no replay log" in run("stats", "--config", config, code=1)
    config.write_text("backend: []\n")
    assert "did you mean backends?" in run("stats", "--config", config, code=1)
    assert "Name the log's directory" in run("stats", code=2)
    assert "neither a time ago" in run("show", folder, "--since", "yesterday", code=2)
    assert "must end in .csv or .parquet" in run("export", folder, "--out", "x.xml", code=2)


def test_an_empty_directory_is_an_empty_log(tmp_path):
    """Nothing is wrong with it."""
    assert as_json("stats", tmp_path)["records"] == 0
    assert as_json("verify", tmp_path)["ok"]
    assert as_json("show", tmp_path) == []


def test_the_documented_queries_run(folder):
    """Every SQL block of docs/replay-log.md, on a log that is being written."""
    page = (DOCS / "replay-log.md").read_text(encoding="utf-8")
    view, *queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    with duckdb.connect() as db:
        db.execute(view.replace("'replay/", f"'{folder}/"))
        by_backend, by_word = [db.execute(query).fetchall() for query in queries]

    assert [row[:3] for row in by_backend] == [("large", 6, pytest.approx(5 / 6))]
    assert by_word == [("d3", "large", 0.75)]
