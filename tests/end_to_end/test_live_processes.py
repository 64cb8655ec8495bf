"""Policies that are published while real processes serve under load; and disks that fail them."""

import contextlib
import http.client
import resource
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from bestserve.proxy import published
from bestserve.proxy.entries import Kept, read
from bestserve.proxy.log_verify import verify
from bestserve.proxy.segments import files
from tests.policies_by_hand import sheds, sound

from .processes import Clients, emulated, serving
from .test_processes import wait_until

WITHIN_S = 5.0  # all workers have what is published
SLOWER = 3.0  # than the profiles: time enough for several processes on few cores


class Answered(NamedTuple):
    """One answer, or what came in its place."""

    at: float
    status: int
    policy: str | None
    backend: str | None
    decision: str | None


class Load(Clients):
    """Clients that ask one after another, each on one connection, until they are told to stop. Whatever goes wrong is noted."""

    def __init__(self, base: str, n: int = 6) -> None:
        super().__init__(base, n)
        self.answers: list[Answered] = []

    def since(self, at: float) -> list[Answered]:
        return [answer for answer in self.answers if answer.at > at]

    def _run(self) -> None:
        body = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
        with contextlib.closing(http.client.HTTPConnection(self.base.removeprefix("http://"), timeout=20)) as connection:
            while not self.done.is_set():
                began = time.monotonic()
                try:
                    connection.request("POST", "/v1/chat/completions", body)
                    reply = connection.getresponse()
                    reply.read()
                    said = (reply.getheader(f"x-bestserve-{name}") for name in ("policy", "backend", "decision"))
                    self.answers.append(Answered(began, reply.status, *said))
                except (OSError, http.client.HTTPException):
                    self.answers.append(Answered(began, 0, None, None, None))
                    connection.close()
                if self.answers[-1].status == 429:
                    time.sleep(0.02)


@pytest.fixture(scope="module")
def backends() -> Iterator[tuple[str, str]]:
    """A small and a large one."""
    with emulated("qwen3-1.7b-h100", time_scale=SLOWER) as small, emulated("qwen3-32b-h100", time_scale=SLOWER) as large:
        yield small, large


@pytest.fixture
def proxy(backends: tuple[str, str], tmp_path: Path) -> Callable[..., AbstractContextManager[tuple[subprocess.Popen[str], str]]]:
    """Starts one before them, with these words of policy."""

    def started(policy: str, *words: str) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
        path, (small, large) = tmp_path / "bestserve.yaml", backends
        path.write_text(
            f"""
backends:
  - {{name: small, url: '{small}', model: Qwen/Qwen3-1.7B, profile: qwen3-1.7b-h100}}
  - {{name: large, url: '{large}', model: Qwen/Qwen3-32B, profile: qwen3-32b-h100}}
policy: {{checkpoint: published, {policy}}}
slo: {{ttft_ms: 20000, tpot_ms: 10000}}
replay: {{dir: replay, fsync_ms: 100}}
log: {{level: error}}
""",
            encoding="utf-8",
        )
        return serving(path, *words)

    return started


def metric(base: str, name: str) -> float | None:
    """A metric by its name and labels."""
    with urllib.request.urlopen(f"{base}/metrics", timeout=5) as reply:
        text = reply.read().decode()
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.rpartition(" ")[0] == name), None)


def policies(folder: Path) -> dict[str, str]:
    """decision -> the policy that its Record names."""
    entries = (placed.entry for placed in read(files([folder / "replay"]), lambda _: None))
    return {entry.decision: entry.line().decision["policy"] for entry in entries if isinstance(entry, Kept)}


def test_a_policy_is_swapped_under_load(proxy, tmp_path):
    """Zero requests fail, all workers have it within 5 s, the share of actions changes, and every Record says which version decided."""
    with proxy("fallback: 'static:small', canary: {pairs: 0}", "--workers", "2") as (_, base), Load(base) as load:
        wait_until(lambda: len(load.answers) > 60)
        version = published.publish(tmp_path / "policies", sound(), {})
        swapped = time.monotonic()
        name = f"actor-{version[-8:]}"
        settled = swapped + WITHIN_S
        wait_until(lambda: len(load.since(settled)) > 60)

    answers = load.answers
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    before = [answer for answer in answers if answer.at < swapped - 1]
    assert {(answer.policy, answer.backend) for answer in before} == {("static:small", "small")}
    assert {answer.policy for answer in load.since(settled)} == {name}
    assert Counter(answer.backend for answer in load.since(settled))["large"] > 0.5 * len(load.since(settled))
    there = policies(tmp_path)
    assert all(there.get(str(answer.decision).partition(".")[0], answer.policy) == answer.policy for answer in answers)
    assert Counter(there.values())[name] > 60


@pytest.mark.timeout(180)
def test_poison_is_rolled_back_under_load(proxy, tmp_path):
    """It has its turns, costs those, and goes by itself in all workers; nothing fails otherwise."""
    policy = "fallback: 'static:small', canary: {window_s: 1, pairs: 20, requests: 5}"
    with proxy(policy, "--workers", "2") as (_, base), Load(base) as load:
        wait_until(lambda: len(load.answers) > 20)
        version = published.publish(tmp_path / "policies", sheds(), {})
        wait_until(lambda: published.current(tmp_path / "policies").version is None, seconds=60)
        gone = time.monotonic()
        wait_until(lambda: metric(base, 'bestserve_policy_rollbacks_total{reason="reward"}') == 1)
        settled = gone + WITHIN_S
        wait_until(lambda: len(load.since(settled)) > 40)

    assert {answer.status for answer in load.answers} == {200, 429}
    assert {(answer.status, answer.policy) for answer in load.since(settled)} == {(200, "static:small")}
    (found,) = published.listed(tmp_path / "policies")
    assert (found.version, found.state) == (version, "rolled back")
    shed = [name for decision, name in policies(tmp_path).items() if name == f"actor-{version[-8:]}"]
    assert shed


@pytest.mark.skipif(
    not hasattr(resource, "prlimit"),
    reason="only Linux can take the disk from a process that runs; elsewhere this cannot be staged",
)
def test_serving_goes_on_without_a_disk_and_what_waited_is_written(proxy, tmp_path):
    """Every write fails for a while, a foreign policy is published, an old segment is junk: metrics say each, and nobody notices else."""
    (tmp_path / "replay").mkdir()
    junk = tmp_path / "replay" / "20261101T000000000Z-host-1-00000000-000001.jsonl"
    junk.write_bytes(b'{"kind": "record", "format": 1}\n\xff\xfe\n')
    with proxy("fallback: 'static:small', canary: {pairs: 0}") as (process, base):
        with Load(base, 2) as load:
            version = published.publish(tmp_path / "policies", sound(), {})
            wait_until(lambda: not published.current(tmp_path / "policies").trial)
            wait_until(lambda: load.answers[-1].policy == f"actor-{version[-8:]}")
            unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
            wait_until(lambda: metric(base, "bestserve_replay_failing") == 1)
            foreign = published.publish(tmp_path / "policies", sound(2), {})
            (tmp_path / "policies" / f"{foreign}.ckpt").write_bytes(b"of another kind")
            wait_until(lambda: metric(base, "bestserve_policy_refused_total") == 1)
            began = time.monotonic()
            wait_until(lambda: len(load.since(began)) > 20)
            assert {answer.policy for answer in load.since(began)} == {f"actor-{version[-8:]}"}
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
            wait_until(lambda: metric(base, "bestserve_replay_failing") == 0)
            before = len(load.answers)
            wait_until(lambda: len(load.answers) > before + 10)
        process.terminate()
        assert process.wait(timeout=30) == 0

    assert {answer.status for answer in load.answers} == {200}
    there = policies(tmp_path)
    assert {str(answer.decision).partition(".")[0] for answer in load.answers} <= set(there)
    found = verify(files([tmp_path / "replay"]))
    assert [(problem.path.name, problem.line) for problem in found.problems] == [(f"{junk.name}.gz", 1), (f"{junk.name}.gz", 2)]  # packed
    assert found.lost == {}
