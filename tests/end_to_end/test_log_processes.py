"""The replay log of real processes: killed under load, started again, ended by signals."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import openai
import orjson
import pytest

from bestserve.proxy.entries import Kept, read
from bestserve.proxy.segments import files, segments

from .processes import Clients, config_file, emulated, serving
from .test_processes import ask, children, client, wait_until

POLL_S = 0.05  # how often a worker looks at its queue
GRACE_S = 0.5  # for machines that are busy with other things

HI = [{"role": "user", "content": "hi"}]
REPLAY = "replay: {dir: replay, fsync_ms: 100}\n"


def decisions(folder: Path) -> set[str]:
    """The ids of all decisions in the log."""
    return {placed.entry.decision for placed in read(files([folder]), lambda _: None) if isinstance(placed.entry, Kept)}


def writers(folder: Path) -> set[int]:
    """The processes that have a ledger."""
    return {int(path.name.split("-")[-2]) for path in folder.glob("*.ledger")}


def verified(folder: Path) -> dict:
    """What `bestserve log verify` says, which must end with 0."""
    command = [sys.executable, "-m", "bestserve.proxy", "log", "verify", str(folder), "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stdout
    return orjson.loads(said.stdout)


def lost(base: str) -> dict[str, float]:
    """What the metrics say is lost, by reason."""
    with urllib.request.urlopen(f"{base}/metrics", timeout=5) as reply:
        text = reply.read().decode()
    return {why: float(n) for why, n in re.findall(r'^bestserve_replay_lost_total\{why="(\w+)"\} (\S+)', text, re.MULTILINE)}


class Load(Clients):
    """Clients that ask until they are told to stop, and note when each answer came."""

    def __init__(self, base: str, n: int = 6) -> None:
        super().__init__(base, n)
        self.answered: dict[str, float] = {}  # decision -> when its answer was complete

    def _run(self) -> None:
        with client(self.base) as sdk:
            while not self.done.is_set():
                try:
                    raw = sdk.chat.completions.with_raw_response.create(model="auto", messages=HI, max_tokens=4)
                except openai.APIError:  # its connection was to the worker that was killed
                    continue
                raw.parse()
                self.answered[raw.headers["x-bestserve-decision"].partition(".")[0]] = time.monotonic()


@pytest.mark.timeout(180)
def test_kill_9_under_load_costs_the_last_moment_and_it_is_counted(tmp_path):
    """Every record that was acknowledged before the last look at the queue is there; verify says so; the rest goes on."""
    folder = tmp_path / "replay"
    with emulated() as url, serving(config_file(tmp_path, {"a": url}, more=REPLAY), "--workers", "2") as (process, base):
        kills = []
        with Load(base) as load:
            for _ in range(3):
                time.sleep(1.5)
                victim = children(process.pid)[0]
                os.kill(victim, signal.SIGKILL)
                kills.append(time.monotonic())
                wait_until(lambda victim=victim: victim not in children(process.pid) and len(children(process.pid)) == 2)
            before = len(load.answered)
            wait_until(lambda: len(load.answered) > before + 20)
        wait_until(lambda: writers(folder) == set(children(process.pid)))  # the dead are settled
        counted = lost(base)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0

    there = decisions(folder)
    missing = [at for decision, at in load.answered.items() if decision not in there]
    said = verified(folder)
    assert len(load.answered) > 100
    assert all(any(-GRACE_S <= kill - at <= POLL_S + GRACE_S for kill in kills) for at in missing)  # a client notes a bit late
    assert said["lost"].get("killed", 0) == counted.get("killed", 0) >= len(missing)
    assert not said["torn"]
    assert not list(folder.glob("*.ledger"))
    assert not [segment for segment in segments(folder) if segment.is_open]


def test_kill_9_of_everything_is_settled_at_the_next_start(tmp_path):
    """Nobody was left to do it; what was written is read, counted and gone on with."""
    folder, path = tmp_path / "replay", None
    with emulated() as url:
        path = config_file(tmp_path, {"a": url}, more=REPLAY)
        with serving(path) as (process, base), Load(base, 4) as load:
            time.sleep(1.5)
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            process.wait()
        assert verified(folder)["ok"]  # as it was left
        with serving(path) as (process, base):
            answer = ask(base)
            assert answer.choices
            wait_until(lambda: writers(folder) == {process.pid})
            counted = lost(base)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0

    missing = [at for decision, at in load.answered.items() if decision not in decisions(folder)]
    said = verified(folder)
    assert len(load.answered) > 50
    assert all(killed - at <= POLL_S + GRACE_S for at in missing)
    assert said["lost"].get("killed", 0) == counted.get("killed", 0) >= len(missing)


def test_a_stopped_writer_that_is_killed_leaves_an_exact_count(tmp_path):
    """The writing thread is given no time between the last answers and the kill, so that something is lost for certain."""
    code = """
import os, pathlib, sys, time
sys.path.insert(0, sys.argv[2])
from tests.proxy.log_by_hand import AROUND, Counted, record, settings
from bestserve.proxy.replay import Replay
log = Replay(settings(pathlib.Path(sys.argv[1])), Counted())
log.start()
log.keep(record("there"), AROUND)
while log._written < 1: pass
log._again_at = float("inf")  # its thread does nothing from here on
time.sleep(0.2)
for i in range(7): log.keep(record(f"d{i}"), AROUND)
os.kill(os.getpid(), 9)
"""
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "replay"), root], check=False, timeout=60).returncode == -9
    with emulated() as url, serving(config_file(tmp_path, {"a": url}, more=REPLAY)) as (process, base):
        wait_until(lambda: lost(base) == {"killed": 7})
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0

    said = verified(tmp_path / "replay")
    assert (said["records"], said["lost"]) == (1, {"killed": 7})


def test_sigterm_writes_everything(tmp_path):
    """Of every worker, the requests that were still being answered included."""
    with (
        emulated() as url,
        serving(config_file(tmp_path, {"a": url}, more=REPLAY), "--workers", "2") as (process, base),
        Load(base) as load,
    ):
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0

    said = verified(tmp_path / "replay")
    assert set(load.answered) <= decisions(tmp_path / "replay")
    assert said["lost"] == {}
    assert {path.suffix for path in (tmp_path / "replay").iterdir()} == {".gz", ".lock", ""}


def test_feedback_is_taken_by_any_worker(tmp_path):
    """Whichever made the decision; also after a restart."""
    with emulated() as url:
        path = config_file(tmp_path, {"a": url}, more=REPLAY)
        ids = []
        for _ in range(2):
            with serving(path, "--workers", "2") as (process, base):
                for _ in range(6):
                    raw = client(base).chat.completions.with_raw_response.create(model="auto", messages=HI, max_tokens=4)
                    ids.append(raw.headers["x-bestserve-decision"])
                statuses = [rated(base, decision) for decision in ids]
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=30) == 0
            assert set(statuses) == {200}

    assert verified(tmp_path / "replay")["feedback"] >= 12


def rated(base: str, decision: str) -> int:
    body = orjson.dumps({"decision": decision, "rating": "up"})
    with urllib.request.urlopen(urllib.request.Request(f"{base}/v1/feedback", body, method="POST"), timeout=5) as reply:
        return reply.status
