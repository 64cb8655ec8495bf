"""What came when survives an interruption."""

import pytest

from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.runs import Header, NotOurs, Raw
from tests.proxy.profiling.world import play

HEADER = Header("http://a", "m", "chat", {"max_running": 16})


def test_what_is_written_is_read(tmp_path) -> None:
    """Header and runs come back as they were, times to the microsecond."""
    raw, runs = Raw(tmp_path / "raw.jsonl"), [play(script.decode(3, 32, 9)), play(script.remember(64, 16, 1))]
    raw.begin(HEADER)
    for run in runs:
        raw.add(run)

    header, read = raw.read()

    assert header == HEADER
    assert [run.key for run in read] == ["decode 3x32", "remember 64+16"]
    assert read[0].calls == runs[0].calls
    assert read[1].streams[1].times == pytest.approx(runs[1].streams[1].times, abs=1e-6)


def test_a_line_that_was_cut_is_left_out_and_mended(tmp_path) -> None:
    """The runs before it are there, and what is added after mending can be read."""
    raw = Raw(tmp_path / "raw.jsonl")
    raw.begin(HEADER)
    raw.add(play(script.prefill(16, 1)))
    with raw.path.open("ab") as file:
        file.write(b'{"kind":"prefill","ke')

    assert len(raw.read()[1]) == 1
    raw.mend()
    raw.add(play(script.prefill(32, 1)))

    assert [run.key for run in raw.read()[1]] == ["prefill 16", "prefill 32"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "raw"),
        ("nonsense\n", "raw"),
        ('{"schema": 2}\n', "its schema is 2, this version reads 1"),
        ('{"schema":1,"url":"u","model":"m","way":"w","told":{}}\n{"kind":1}\n', "line 2"),
    ],
)
def test_another_file_is_refused_with_its_name(tmp_path, text: str, says: str) -> None:
    """What is no measurement of ours says which line, or which schema."""
    path = tmp_path / "raw.jsonl"
    path.write_text(text)

    with pytest.raises(NotOurs, match=says) as refused:
        Raw(path).read()

    assert str(path) in str(refused.value)
