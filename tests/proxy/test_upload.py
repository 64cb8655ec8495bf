"""Copies of finished segments."""

import gzip
import threading

import pytest

from bestserve.proxy.segments import finished, stem_of
from bestserve.proxy.upload import FIRST_WAIT_S, Uploader

from .log_by_hand import AROUND, record, settings
from .s3_by_hand import s3
from .test_replay import until, writing

ENDING = threading.Event()


def segment(folder, n, content=b"x\n"):
    path = folder / (stem_of("20261122T080000000Z", "host-1-0123abcd", n) + ".jsonl.gz")
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def bucket(monkeypatch):
    with s3() as (bucket, endpoint):
        said = {"ENDPOINT": endpoint, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}
        for name, value in said.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield bucket


def test_what_is_not_there_is_uploaded_and_nothing_twice(tmp_path, bucket):
    """Also by another process after a restart, which asks the store what has arrived."""
    told: list[bool] = []
    one, two = segment(tmp_path, 1), segment(tmp_path, 2)
    first = Uploader("s3://bucket/logs/live", told.append)
    first.step(finished(tmp_path, "gzip"), ENDING)
    first.step(finished(tmp_path, "gzip"), ENDING)
    three = segment(tmp_path, 3)
    Uploader("s3://bucket/logs/live", told.append).step(finished(tmp_path, "gzip"), ENDING)

    assert bucket.objects == {f"logs/live/{path.name}": path.read_bytes() for path in (one, two, three)}
    assert bucket.puts == 3
    assert told == [True, True, True]
    assert first.has(one)
    assert not first.has(three)


def test_what_arrived_in_part_is_uploaded_again(tmp_path, bucket):
    """A size tells."""
    path = segment(tmp_path, 1)
    bucket.objects[f"logs/{path.name}"] = b"half"
    Uploader("s3://bucket/logs", lambda _: None).step(finished(tmp_path, "gzip"), ENDING)
    assert bucket.objects[f"logs/{path.name}"] == path.read_bytes()


def test_a_store_that_refuses_is_asked_again_later_and_less_and_less_often(tmp_path, bucket, caplog):
    """One line in the log, a count each time, and once more at the end."""
    now, told = [0.0], []
    segment(tmp_path, 1)
    bucket.is_down = True
    uploader = Uploader("s3://bucket", told.append, clock=lambda: now[0])
    tried = []
    for second in range(60):
        now[0] = float(second)
        before = len(told)
        uploader.step(finished(tmp_path, "gzip"), ENDING)
        tried += [second] * (len(told) - before)
    assert tried == [0, FIRST_WAIT_S, 3 * FIRST_WAIT_S, 7 * FIRST_WAIT_S]
    assert told == [False] * 4
    assert len(caplog.records) == 1

    bucket.is_down = False
    ending = threading.Event()
    ending.set()
    uploader.step(finished(tmp_path, "gzip"), ending)
    assert told[-1] is True


def test_a_folder_is_a_store_too(tmp_path):
    """Made where it is not there."""
    (tmp_path / "log").mkdir()
    path = segment(tmp_path / "log", 1)
    Uploader(f"file://{tmp_path}/copies/live", lambda _: None).step(finished(tmp_path / "log", "gzip"), ENDING)
    assert (tmp_path / "copies" / "live" / path.name).read_bytes() == path.read_bytes()


def test_a_running_log_uploads_what_it_has_sealed_and_the_rest_at_its_end(tmp_path):
    """In the background; open segments stay at home."""
    copies = tmp_path / "copies"
    with writing(tmp_path / "log", upload=f"file://{copies}", segment_mb=0.004) as (log, counted):
        for i in range(5):
            log.keep(record(f"d{i}"), AROUND)
        until(lambda: copies.is_dir() and list(copies.iterdir()))
        log.keep(record("last"), AROUND)

    assert {path.name for path in copies.iterdir()} == {s.path.name for s in finished(tmp_path / "log", "gzip")}
    assert len(counted.uploads) >= 2
    assert all(counted.uploads)


def test_a_store_that_is_not_there_harms_nothing(tmp_path):
    """The log is written, closed, and kept."""
    (tmp_path / "file").write_text("in the way")
    with writing(tmp_path / "log", upload=f"file://{tmp_path}/file/x") as (log, counted):
        log.keep(record(), AROUND)
    assert set(counted.uploads) == {False}
    assert len(finished(settings(tmp_path / "log").dir, "gzip")) == 1
