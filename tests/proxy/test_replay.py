"""The replay log's writing side."""

import os
import resource
import shutil
import threading
import time
from contextlib import contextmanager

import pytest

from bestserve.proxy import replay as module
from bestserve.proxy import segments as segments_module
from bestserve.proxy.entries import Kept, Lost, Said
from bestserve.proxy.log_verify import verify
from bestserve.proxy.replay import LEAST_ODDS, Replay, odds_at
from bestserve.proxy.segments import files, segments

from .log_by_hand import AROUND, Counted, everything, record, settings


@contextmanager
def writing(folder, **said):
    """A running log, and what it counts."""
    counted = Counted()
    log = Replay(settings(folder, **said), counted)
    log.start()
    try:
        yield log, counted
    finally:
        log.close()


def until(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.005)


def n_lines(folder):
    return len(everything(folder)[0]) if folder.exists() else 0


def test_what_is_kept_can_be_read_while_it_is_written(tmp_path):
    """Within a moment, from the open segment, numbered from 1."""
    with writing(tmp_path) as (log, _):
        log.keep(record("d1"), AROUND)
        log.say(decision="d1", key="team-a", score=0.5)
        until(lambda: n_lines(tmp_path) == 2)

        (kept, said), problems = everything(tmp_path)

    assert isinstance(kept, Kept)
    assert (kept.decision, kept.seq, kept.around) == ("d1", 1, AROUND)
    assert isinstance(said, Said)
    assert (said.decision, said.seq, said.score, said.key) == ("d1", 2, 0.5, "team-a")
    assert not problems


def test_closing_writes_what_waits_and_leaves_one_packed_segment(tmp_path):
    """No open segment and no ledger stay behind."""
    with writing(tmp_path) as (log, counted):
        for i in range(300):
            log.keep(record(f"d{i}"), AROUND)

    entries, problems = everything(tmp_path)
    assert [entry.decision for entry in entries] == [f"d{i}" for i in range(300)]
    assert not problems
    assert not counted.lost
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".lock"]


def test_nobody_else_may_read_it(tmp_path):
    """Directories are 0700, files 0600."""
    folder = tmp_path / "deep" / "replay"
    with writing(folder) as (log, _):
        log.keep(record(), AROUND)
        until(lambda: n_lines(folder) == 1)
        modes = {path.suffix: path.stat().st_mode & 0o777 for path in folder.iterdir()}

    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes | {".lock": 0o600} == {".jsonl": 0o600, ".ledger": 0o600, ".lock": 0o600}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_full_segment_is_sealed_packed_and_followed_by_another(tmp_path):
    """Numbers go on over the border."""
    with writing(tmp_path, segment_mb=0.02, fsync_ms=0) as (log, _):
        for i in range(60):
            log.keep(record(f"d{i}"), AROUND)
            until(lambda n=i + 1: log._written == n)

    assert len(segments(tmp_path)) > 3
    assert verify(files([tmp_path])).plain() | {"files": 0, "writers": 0} == {
        "ok": True,
        "files": 0,
        "writers": 0,
        "records": 60,
        "feedback": 0,
        "lost": {},
        "torn": [],
        "problems": [],
    }


def test_an_old_segment_is_sealed_though_nothing_comes(tmp_path):
    """By its age."""
    with writing(tmp_path, segment_min=0.002) as (log, _):
        log.keep(record(), AROUND)
        until(lambda: [s for s in segments(tmp_path) if not s.is_open])


def test_two_logs_share_a_directory(tmp_path):
    """They never meet in a file, and the first does not take the second for dead."""
    with writing(tmp_path) as (one, a), writing(tmp_path) as (two, b):
        for i in range(50):
            one.keep(record(f"one-{i}"), AROUND)
            two.keep(record(f"two-{i}"), AROUND)
        until(lambda: n_lines(tmp_path) == 100)

    assert not a.lost
    assert not b.lost
    assert len({segment.writer for segment in segments(tmp_path)}) == 2
    assert verify(files([tmp_path])).ok


# --- the coin ---


def test_the_odds_are_one_until_the_queue_is_half_full_and_fall_evenly_then():
    """And never reach nothing."""
    assert [odds_at(fill) for fill in (0.0, 0.5, 0.75, 0.9, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.2, LEAST_ODDS])


def test_the_coin_is_weighed_by_what_is_kept(tmp_path):
    """Kept records, each counted by the inverse of its odds, are as many as there were, whatever the queue's state."""
    counted = Counted()
    draws = iter([i / 1000 % 1 for i in range(0, 7_000_000, 7)])  # even, and in no step with the queue
    log = Replay(settings(tmp_path, queue=1000), counted, draw=lambda: next(draws))  # never started: nothing leaves the queue

    weights = 0.0
    for _ in range(3000):
        odds = log.toss()
        if odds:
            weights += 1 / odds
            log.keep(record(), AROUND)

    assert counted.unkept > 500
    assert weights == pytest.approx(3000, rel=0.1)
    assert not counted.lost


def test_a_queue_that_is_full_loses_and_says_so(tmp_path):
    """In the count, and on a line of the log once there is room."""
    counted = Counted()
    log = Replay(settings(tmp_path, queue=16), counted)
    for i in range(20):
        log.keep(record(f"d{i}"), AROUND)
    assert not log.say(decision="d", key="k", score=1.0)
    log.start()
    log.close()

    entries, _ = everything(tmp_path)
    assert counted.lost == {"full": 4}
    assert len([e for e in entries if isinstance(e, Kept)]) == 16
    assert [(e.n, e.why) for e in entries if isinstance(e, Lost)] == [(4, "full")]


# --- what can go wrong ---


def test_a_record_that_cannot_be_written_down_ends_nothing(tmp_path, caplog):
    """It is counted, its number is accounted for, and the next one is there."""
    with writing(tmp_path) as (log, counted):
        log._enqueue((record(), None))
        log.keep(record("next"), AROUND)

    assert counted.lost == {"unmade": 1}
    assert "could not be made" in caplog.text
    assert verify(files([tmp_path])).ok
    assert [e.decision for e in everything(tmp_path)[0] if isinstance(e, Kept)] == ["next"]


def test_a_full_disk_is_said_once_and_survived(tmp_path, caplog):
    """Half-written lines are taken back; once there is room, everything that waited is written."""
    with writing(tmp_path) as (log, counted):
        log.keep(record("before"), AROUND)
        until(lambda: n_lines(tmp_path) == 1)
        size = next(tmp_path.glob("*.open.jsonl")).stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, before[1]))  # the kernel writes half a line, then refuses
        try:
            for i in range(10):
                log.keep(record(f"d{i}"), AROUND)
            until(lambda: log.failing)
            log._again_at = 0.0
            time.sleep(0.2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log._again_at = 0.0
        until(lambda: n_lines(tmp_path) == 11)

    assert counted.failing == [True, False]
    assert not counted.lost
    assert [r.levelname for r in caplog.records] == ["ERROR", "WARNING"]
    assert verify(files([tmp_path])).plain()["records"] == 11


def test_what_meets_a_full_queue_while_the_disk_is_full_is_lost_for_that_reason(tmp_path):
    """A path that is no directory, which not even root can write to."""
    (tmp_path / "replay").write_text("in the way")
    with writing(tmp_path / "replay", queue=16) as (log, counted):
        until(lambda: log.failing)
        for i in range(20):
            log.keep(record(f"d{i}"), AROUND)
        until(lambda: counted.lost["unwritable"] == 4)
        (tmp_path / "replay").unlink()
        log._again_at = 0.0
        until(lambda: n_lines(tmp_path / "replay") >= 16)

    found = verify(files([tmp_path / "replay"])).plain()
    assert (found["records"], found["lost"], found["ok"]) == (16, {"unwritable": 4}, True)


def test_a_log_that_could_never_be_written_counts_everything_as_lost(tmp_path):
    """At the end."""
    (tmp_path / "replay").write_text("in the way")
    with writing(tmp_path / "replay") as (log, counted):
        for i in range(20):
            log.keep(record(f"d{i}"), AROUND)

    assert counted.lost == {"unwritable": 20}


def test_a_directory_that_vanishes_is_made_again(tmp_path):
    """What was in it is counted as lost, what comes is kept."""
    folder = tmp_path / "replay"
    with writing(folder) as (log, counted):
        for i in range(5):
            log.keep(record(f"d{i}"), AROUND)
        until(lambda: n_lines(folder) == 5)
        shutil.rmtree(folder)
        until(lambda: counted.lost["vanished"] == 5)
        log.keep(record("after"), AROUND)
        until(lambda: n_lines(folder) == 2)

    entries, _ = everything(folder)
    assert [e.decision for e in entries if isinstance(e, Kept)] == ["after"]
    assert verify(files([folder])).plain()["lost"] == {"vanished": 5}


def test_a_segment_that_cannot_be_sealed_is_counted(tmp_path, monkeypatch):
    """It vanished between the look and the rename; the next one is begun."""
    refusing = threading.Event()
    refusing.set()
    seal = segments_module.seal

    def refuse(path):
        if refusing.is_set():
            path.unlink()
        return seal(path)

    monkeypatch.setattr("bestserve.proxy.tape.seal", refuse)
    with writing(tmp_path, segment_mb=1e-6) as (log, counted):
        log.keep(record("gone"), AROUND)
        until(lambda: counted.lost["vanished"] == 1)
        refusing.clear()
        log._again_at = 0.0
        log.keep(record("after"), AROUND)

    assert [e.decision for e in everything(tmp_path)[0] if isinstance(e, Kept)] == ["after"]
    assert verify(files([tmp_path])).plain()["lost"] == {"vanished": 1}


def test_a_disk_that_does_not_sync_costs_what_was_not_on_it(tmp_path, monkeypatch):
    """Those lines are counted as lost, and others go to a new segment."""
    refusing = threading.Event()

    def sync(file):
        if refusing.is_set():
            raise OSError(5, "Input/output error")
        os.fsync(file)

    monkeypatch.setattr("bestserve.proxy.tape._sync", sync)
    with writing(tmp_path) as (log, counted):
        log.keep(record("safe"), AROUND)
        until(lambda: log._synced == 1)
        refusing.set()
        log.keep(record("unsure"), AROUND)
        until(lambda: counted.lost["unwritable"] == 1)
        refusing.clear()
        log._again_at = 0.0
        log.keep(record("after"), AROUND)

    found = verify(files([tmp_path])).plain()
    assert found["ok"]
    assert found["lost"] == {"unwritable": 1}
    assert {"safe", "after"} <= {e.decision for e in everything(tmp_path)[0] if isinstance(e, Kept)}


def test_a_hanging_disk_does_not_hold_up_the_end(tmp_path, monkeypatch):
    """Closing gives up; the ledger stays for the next process to settle."""
    hanging = threading.Event()
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    monkeypatch.setattr("bestserve.proxy.tape._sync", lambda file: hanging.wait(10))
    with writing(tmp_path) as (log, _):
        log.keep(record(), AROUND)
        time.sleep(0.2)
        begun = time.monotonic()

    assert time.monotonic() - begun < 2
    assert list(tmp_path.glob("*.ledger"))
    hanging.set()
    log._thread.join()
    log._keeper._thread.join()
