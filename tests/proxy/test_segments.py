"""Names, packing and reading of segments."""

import gzip

import pytest

from bestserve.proxy.segments import BadSegment, cut, files, finished, lines, pack, seal, segments

STEM = "20261122T080000000Z-host.example-42-0123abcd-000001"


def put(folder, suffix, content=b'{"a":1}\n{"a":2}\n', stem=STEM):
    path = folder / (stem + suffix)
    path.write_bytes(content)
    return path


def test_a_name_says_when_by_whom_and_which(tmp_path):
    """Also for hosts with dashes and dots; other files are none of ours."""
    put(tmp_path, ".open.jsonl", stem="20261122T080000000Z-my-host.x-1-0123abcd-000012")
    for other in ("secret", "x.jsonl", "x.part", STEM + ".part", STEM + ".jsonl.tmp"):
        (tmp_path / other).write_text("")

    (segment,) = segments(tmp_path)

    assert (segment.opened, segment.writer, segment.number) == ("20261122T080000000Z", "my-host.x-1-0123abcd", 12)
    assert segment.is_open


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".jsonl.gz"), ("zstd", ".jsonl.zst"), ("none", ".jsonl")])
def test_sealed_and_packed_it_reads_the_same(tmp_path, compression, suffix):
    """And nothing else stays behind."""
    path = put(tmp_path, ".open.jsonl")
    packed = pack(seal(path), compression)

    assert packed.name == STEM + suffix
    assert list(lines(packed)) == [b'{"a":1}\n', b'{"a":2}\n']
    assert [p.name for p in tmp_path.iterdir()] == [packed.name]
    assert [s.path for s in finished(tmp_path, compression)] == [packed]


def test_an_open_path_leads_to_what_became_of_it(tmp_path):
    """A reader that listed it before it was packed still finds it."""
    path = put(tmp_path, ".open.jsonl")
    pack(seal(path), "gzip")
    assert len(list(lines(path))) == 2


def test_of_two_files_of_one_segment_the_packed_one_is_read(tmp_path):
    """A kill between the rename and the removal loses nothing and doubles nothing."""
    put(tmp_path, ".jsonl")
    packed = put(tmp_path, ".jsonl.gz", gzip.compress(b'{"a":1}\n{"a":2}\n'))
    assert files([tmp_path]) == [packed]


def test_cutting_takes_off_the_torn_end_only(tmp_path):
    """And nothing from a whole file."""
    torn, whole = put(tmp_path, ".jsonl", b'{"a":1}\n{"a"'), put(tmp_path, ".open.jsonl")
    cut(torn)
    cut(whole)
    assert torn.read_bytes() == b'{"a":1}\n'
    assert whole.read_bytes() == b'{"a":1}\n{"a":2}\n'


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jsonl.gz", gzip.compress(b"x\n" * 9999, mtime=0)[:-20]),
        (".jsonl.gz", b"no gzip at all"),
        (".jsonl.gz", gzip.compress(b"x\n" * 9999, mtime=0)[:20] + b"\xff" * 30),
        (".jsonl.zst", b"no zstd at all"),
    ],
)
def test_a_broken_compression_is_told_as_such(tmp_path, suffix, content):
    """Whatever the library calls it."""
    with pytest.raises(BadSegment, match="compression is broken"):
        list(lines(put(tmp_path, suffix, content)))


def test_since_leaves_out_what_was_last_written_before(tmp_path):
    """By the file's time, which packing keeps."""
    path = seal(put(tmp_path, ".open.jsonl"))
    written = path.stat().st_mtime
    packed = pack(path, "gzip")
    assert files([tmp_path], since=written - 1) == [packed]
    assert files([tmp_path], since=written + 1) == []
