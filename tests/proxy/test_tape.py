"""Appending to segments."""

import os
import resource
import time

import pytest

from bestserve.proxy.segments import segments
from bestserve.proxy.tape import Tape


def tape(folder):
    return Tape(folder, "host-1-0123abcd", clock=time.monotonic)


def test_segments_are_numbered_and_opened_with_the_first_line(tmp_path):
    """An idle writer leaves no empty file."""
    one = tape(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for data in (b"a\n", b"b\n"):
        one.append(data)
        one.sync()
        one.seal()

    assert [(s.number, s.path.read_bytes()) for s in segments(tmp_path / "new")] == [(1, b"a\n"), (2, b"b\n")]


def test_half_a_write_is_taken_back(tmp_path):
    """So that the next line does not stand behind a torn one."""
    one = tape(tmp_path)
    one.append(b"a\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            one.append(b"b" * 200 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one.append(b"c\n")

    assert segments(tmp_path)[0].path.read_bytes() == b"a\nc\n"
    one.drop()


def test_where_it_cannot_be_taken_back_a_new_segment_is_begun(tmp_path, monkeypatch):
    """The old one keeps its torn end, which readers pass over."""
    one = tape(tmp_path)
    one.append(b"a\n")
    write = os.write

    def half(file, data):
        write(file, data[:1])
        raise OSError(28, "No space left on device")

    def refused(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        patched.setattr(os, "ftruncate", refused)
        with pytest.raises(OSError, match="No space"):
            one.append(b"b\n")
    one.append(b"b\n")

    assert [s.path.read_bytes() for s in segments(tmp_path)] == [b"a\nb", b"b\n"]
    one.drop()


def test_it_sees_when_its_file_is_not_there_any_more(tmp_path):
    """Removed, or another put in its place."""
    one = tape(tmp_path)
    assert one.is_there()
    one.append(b"a\n")
    assert one.is_there()
    path = segments(tmp_path)[0].path
    path.rename(tmp_path / "away")
    assert not one.is_there()
    path.write_bytes(b"a\n")
    assert not one.is_there()
    one.drop()
