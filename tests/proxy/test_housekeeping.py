"""What is done for a replay directory beside writing."""

import fcntl
import os
import time

import pytest

from bestserve.proxy.entries import record_line
from bestserve.proxy.housekeeping import LOCK, SILENT_S, adopt, keep_within, locked, pack_left
from bestserve.proxy.ledger import Ledger
from bestserve.proxy.segments import segments, stem_of

from .log_by_hand import AROUND, everything, record, settings

DEAD, ME = "host-1-0000dead", "host-2-0000beef"


class Losses(list):
    def __call__(self, why, n, *, writer, first, last):
        self.append((why, n, writer, first, last))


def written(folder, writer, numbers, *, suffix=".open.jsonl", torn=b"", segment=1):
    """A segment as its writer has left it."""
    path = folder / (stem_of("20261122T080000000Z", writer, segment) + suffix)
    path.write_bytes(b"".join(record_line(writer, n, record(f"d{n}"), AROUND) for n in numbers) + torn)
    return path


def ledger(folder, writer, *, made, sealed=0, alive=False):
    one = Ledger.make(folder, writer)
    one.made, one.sealed = made, sealed
    if not alive:
        one.close()
    return one


def names(folder):
    return sorted(path.name.split("-", 1)[-1] for path in folder.iterdir())


def test_what_a_dead_writer_left_is_sealed_and_what_it_cost_is_counted(tmp_path):
    """Its torn end is cut off, its ledger settled."""
    written(tmp_path, DEAD, [1, 2, 3], torn=b'{"kind":"rec')
    ledger(tmp_path, DEAD, made=5)
    lost = Losses()

    adopt(tmp_path, ME, lost)
    pack_left(tmp_path, settings(tmp_path))

    assert lost == [("killed", 2, DEAD, 4, 5)]
    assert names(tmp_path) == [f"{DEAD}-000001.jsonl.gz"]
    entries, problems = everything(tmp_path)
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert not problems


def test_nothing_is_lost_where_everything_is_there(tmp_path):
    """In the open segment, in a sealed one, or in those packed before."""
    for writer, suffix, numbers in (
        ("h-1-00000001", ".open.jsonl", [3, 4]),
        ("h-2-00000002", ".jsonl", [3, 4]),
        ("h-3-00000003", ".x", []),
    ):
        written(tmp_path, writer, numbers, suffix=suffix)
        ledger(tmp_path, writer, made=4, sealed=2 if numbers else 4)
    lost = Losses()
    adopt(tmp_path, "h-9-00000009", lost)
    assert lost == []


def test_a_kill_before_the_first_segment_is_counted_too(tmp_path):
    """An empty segment is cleared away."""
    written(tmp_path, DEAD, [])
    ledger(tmp_path, DEAD, made=2)
    lost = Losses()
    adopt(tmp_path, ME, lost)
    assert lost == [("killed", 2, DEAD, 1, 2)]
    assert names(tmp_path) == []


def test_the_living_are_left_alone(tmp_path):
    """Whoever holds the lock of a ledger."""
    written(tmp_path, DEAD, [1])
    alive = ledger(tmp_path, DEAD, made=5, alive=True)
    lost = Losses()
    adopt(tmp_path, ME, lost)
    pack_left(tmp_path, settings(tmp_path))
    assert lost == []
    assert segments(tmp_path)[0].is_open
    alive.close()


def test_another_hosts_writer_is_dead_only_after_a_long_silence(tmp_path):
    """Its lock may not reach us."""
    written(tmp_path, "far-1-0000dead", [1])
    ledger(tmp_path, "far-1-0000dead", made=1)
    lost = Losses()

    adopt(tmp_path, ME, lost)
    assert segments(tmp_path)[0].is_open

    adopt(tmp_path, ME, lost, now=time.time() + SILENT_S + 1)
    assert not segments(tmp_path)[0].is_open


def test_an_open_segment_without_a_ledger_waits_for_the_same_silence(tmp_path):
    """Somebody has copied it here, or a disk refused its end."""
    written(tmp_path, DEAD, [1], torn=b"x")
    adopt(tmp_path, ME, Losses())
    assert segments(tmp_path)[0].is_open
    adopt(tmp_path, ME, Losses(), now=time.time() + SILENT_S + 1)
    assert not segments(tmp_path)[0].is_open


def test_a_packing_that_was_cut_short_is_done_again(tmp_path):
    """The half file goes; so does a plain one that a packed one has replaced."""
    written(tmp_path, DEAD, [1], suffix=".jsonl")
    written(tmp_path, DEAD, [], suffix=".part")
    pack_left(tmp_path, settings(tmp_path))
    written(tmp_path, DEAD, [1], suffix=".jsonl")
    pack_left(tmp_path, settings(tmp_path))
    assert names(tmp_path) == [f"{DEAD}-000001.jsonl.gz"]


def test_one_at_a_time(tmp_path):
    """Whoever comes second is told so."""
    with locked(tmp_path / LOCK) as first, locked(tmp_path / LOCK) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / LOCK) as again:
        assert again


def test_the_oldest_go_when_there_is_too_much(tmp_path):
    """Until it fits; never what is being written."""
    for n in range(1, 5):
        written(tmp_path, DEAD, [n], suffix=".jsonl", segment=n)
    written(tmp_path, DEAD, [9], segment=9)
    size = segments(tmp_path)[0].path.stat().st_size

    keep_within(tmp_path, settings(tmp_path, max_gb=size * 3.5 / 1e9))
    assert [s.number for s in segments(tmp_path)] == [3, 4, 9]

    keep_within(tmp_path, settings(tmp_path, max_gb=1e-9))
    assert [s.number for s in segments(tmp_path)] == [9]


def test_the_old_go(tmp_path):
    """By when they were last written to. Without limits, nothing goes."""
    old, new = written(tmp_path, DEAD, [1], suffix=".jsonl"), written(tmp_path, DEAD, [2], suffix=".jsonl", segment=2)
    os.utime(old, (0, time.time() - 2 * 86_400))
    keep_within(tmp_path, settings(tmp_path))
    assert old.exists()
    keep_within(tmp_path, settings(tmp_path, max_days=1.0))
    assert not old.exists()
    assert new.exists()


def test_what_has_to_be_uploaded_stays_until_it_is(tmp_path):
    """Whatever the limits say."""

    class Nothing:
        def has(self, path):
            return path.name.endswith("000002.jsonl")

    for n in (1, 2):
        written(tmp_path, DEAD, [n], suffix=".jsonl", segment=n)
    keep_within(tmp_path, settings(tmp_path, max_gb=1e-9), Nothing())
    assert [s.number for s in segments(tmp_path)] == [1]


def test_a_lock_that_fails_is_told(tmp_path, monkeypatch):
    """A file system without locks is an OSError, which the housekeeper says once."""

    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OSError, match="No locks"), locked(tmp_path / LOCK):
        pass
