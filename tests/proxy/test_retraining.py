"""`bestserve retrain` from a config and the files of a log to what is printed, written and published."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from bestserve.policy.checkpoint import Checkpoint, from_bytes, to_bytes
from bestserve.policy.facts import TASKS
from bestserve.policy.learn.logged import Skew
from bestserve.policy.learn.retrain import Answer
from bestserve.policy.learn.verdict import Verdict
from bestserve.proxy import published, retraining
from bestserve.proxy.cli import main
from bestserve.proxy.log_columns import read_log
from bestserve.proxy.segments import files
from bestserve.proxy.simulating import Kept, simulated
from bestserve.proxy.workloads import Course
from tests.policy.learn.log_by_simulation import SMALL

pytestmark = pytest.mark.timeout(600)
CONFIG = """
backends:
  - {name: small, url: "http://127.0.0.1:1", model: Qwen/Qwen3-1.7B, profile: qwen3-1.7b-h100}
  - {name: large, url: "http://127.0.0.1:2", model: Qwen/Qwen3-8B, profile: qwen3-8b-h100}
budgets: [none, 128]
policy: {checkpoint: published, fallback: bid-price, dir: ./policies, explore: 0.1}
replay: {dir: ./replay}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and its log."""
    here = tmp_path_factory.mktemp("retrain")
    (here / "c.yaml").write_text(CONFIG, encoding="utf-8")
    simulated(here / "c.yaml", Course("poisson:15", 60.0), "bid-price", 0, explore=0.1, kept=Kept(here / "replay", 0.3))
    return here


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, and with little of everything."""

    @contextmanager
    def pool(jobs: int):
        with ThreadPoolExecutor(1) as made:
            yield made

    options = retraining.options
    monkeypatch.setattr(retraining, "_pool", pool)
    monkeypatch.setattr(retraining, "options", lambda **given: replace(options(**given), args=SMALL))


def retrained(config: Path, *words: str):
    return CliRunner().invoke(main, ["retrain", "--config", str(config), *words])


def test_a_dry_run_says_everything_and_publishes_nothing(folder):
    """As JSON; the report needs nothing else; the challenger is written where one asks for it."""
    done = retrained(folder / "c.yaml", "--dry-run", "--json", "--report", str(folder / "r.html"), "--out", str(folder / "new.ckpt"))
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["mismatches"], said["problems"], said["published"], said["incumbent"]) == (0, 0, None, "bid-price")
    assert said["attempts"] > 700
    assert said["verdict"]["decision"] in ("publish", "keep")
    assert {row["backend"] for row in said["calibration"]} == {"small", "large"}
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "src=" not in page
    assert set(from_bytes((folder / "new.ckpt").read_bytes()).calibration["small"].quality) == set(TASKS)
    assert not (folder / "policies").exists()


@pytest.mark.parametrize("publish", [True, False])
def test_only_a_verdict_publishes(folder, tmp_path, monkeypatch, publish):
    """What is published is on trial, and its verdict stands beside it; what is kept leaves nothing behind."""
    (tmp_path / "c.yaml").write_text(CONFIG.replace("./replay", str(folder / "replay")), encoding="utf-8")
    learnt = retraining.retrain
    monkeypatch.setattr(retraining, "retrain", lambda *all_: decided(learnt(*all_), publish))
    done = retrained(tmp_path / "c.yaml")
    assert done.exit_code == 0, done.output
    pointer = published.current(tmp_path / "policies")
    assert (pointer.version is not None, pointer.trial) == (publish, publish)
    if publish:
        assert f"published as {pointer.version}" in done.output
        (version,) = published.listed(tmp_path / "policies")
        assert version.verdict["verdict"]["decision"] == "publish"


def decided(answer: Answer, publish: bool) -> Answer:
    return answer._replace(judgement=answer.judgement._replace(verdict=Verdict(publish, ())))


def test_what_cannot_be_read_is_named_and_passed_over(folder, tmp_path):
    """By file and line: a broken line, a broken file; a torn end is the end."""
    whole, *_ = files([folder / "replay"])
    lines = whole.read_bytes().splitlines(keepends=True)
    first, second, *_ = (i for i, line in enumerate(lines) if b'"kind":"record"' in line)
    lines[second] = b'{"kind":"record","format":1}\n'
    (tmp_path / "replay").mkdir()
    bad, broken = tmp_path / "replay" / whole.name, tmp_path / "replay" / whole.name.replace("000001.jsonl", "000009.jsonl.gz")
    bad.write_bytes(b"".join(lines) + b'{"kind":"rec')
    broken.write_bytes(gzip.compress(lines[first])[:-20])
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    done = retrained(tmp_path / "c.yaml", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert f"passed over: {bad}:{second + 1}: " in done.stderr
    assert f"passed over: {broken}:" in done.stderr
    assert json.loads(done.stdout)["problems"] == 2


def test_records_that_do_not_encode_to_their_digest_end_it(folder, tmp_path):
    """They teach the wrong thing; file and line are named."""
    whole, *_ = files([folder / "replay"])
    lines = whole.read_bytes().splitlines(keepends=True)
    eighth = [i for i, line in enumerate(lines) if b'"kind":"record"' in line][7]
    raw = orjson.loads(lines[eighth])
    raw["record"]["view"]["price"] = [9.0, 9.0]
    lines[eighth] = orjson.dumps(raw, option=orjson.OPT_APPEND_NEWLINE)
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / whole.name).write_bytes(b"".join(lines))
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    done = retrained(tmp_path / "c.yaml")
    assert done.exit_code == 1
    n = sum(b'"kind":"record"' in line for line in lines)
    assert f"1 of {n} records do not encode" in done.stderr
    assert f"{tmp_path / 'replay' / whole.name}:{eighth + 1}: its facts do not encode to the digest" in done.stderr


def test_without_a_log_it_says_what_is_missing(tmp_path):
    """No replay in the config; an empty folder; nothing young enough."""
    (tmp_path / "c.yaml").write_text(CONFIG.replace("replay: {dir: ./replay}", ""), encoding="utf-8")
    assert "keeps no replay log" in retrained(tmp_path / "c.yaml").stderr
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    assert "replay: there is no record" in retrained(tmp_path / "c.yaml").stderr
    assert "there is no record that is young enough" in retrained(tmp_path / "c.yaml", "--since", "1h").stderr
    assert "neither a time ago" in retrained(tmp_path / "c.yaml", "--since", "soon").stderr


def test_what_decides_now_has_to_be_readable(folder, tmp_path):
    """A foreign checkpoint is named, and nothing is learnt from it."""
    (tmp_path / "old.ckpt").write_bytes(b"no checkpoint")
    text = CONFIG.replace("./replay", str(folder / "replay")).replace("checkpoint: published", "checkpoint: old.ckpt")
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    done = retrained(tmp_path / "c.yaml")
    assert done.exit_code == 1
    assert f"{tmp_path / 'old.ckpt'}: these bytes are no checkpoint" in done.stderr


def test_what_stands_is_where_it_begins(folder, tmp_path):
    """A published version that has stood its trial, before the config's own."""
    made = from_bytes(_untaught())
    version = published.publish(tmp_path / "policies", to_bytes(made), {})
    (tmp_path / "c.yaml").write_text(CONFIG.replace("./replay", str(folder / "replay")), encoding="utf-8")
    config = retraining.load({}, tmp_path / "c.yaml")
    assert retraining.incumbent_of(config).name == "bid-price"
    published.promote(tmp_path / "policies", version, "")
    assert retraining.incumbent_of(config).name == made.name


def _untaught() -> bytes:
    import numpy as np

    from bestserve.policy.inputs import N_CONTEXT, N_ROW
    from bestserve.policy.learn.search import PRIOR
    from bestserve.policy.network import untaught

    zeros = np.zeros(N_ROW + N_CONTEXT)
    return to_bytes(Checkpoint(untaught(), PRIOR, zeros, zeros, {}))


def test_a_log_is_read_whole_whatever_order_its_files_have(folder):
    """The scores of answers join in from anywhere; old files are left out by their time."""
    names = files([folder / "replay"])
    one, other = (read_log(some, None, None, lambda _: None) for some in (names, names[::-1]))
    assert one is not None
    assert other is not None
    assert (one.columns.wall == other.columns.wall).all()
    assert one.skew == {Skew.SAME: len(one.columns.wall)}
    scored = ~(one.columns.score != one.columns.score)
    assert 0.2 < scored.mean() < 0.35
    half = float(one.columns.wall[len(one.columns.wall) // 2])
    late = read_log(names, half, None, lambda _: None)
    assert late is not None
    assert len(late.columns.wall) == (one.columns.wall >= half).sum()


def test_no_key_has_more_than_its_share(folder):
    """Ten thousand scores of one key weigh as much as they may."""
    found = read_log(files([folder / "replay"]), None, None, lambda _: None)
    assert found is not None
    usual = retraining.score_weights(found.columns)
    log = found.columns
    assert set(usual[log.score == log.score].tolist()) == {1.0}
    loud = log._replace(key=log.key.copy())
    loud.key[: len(loud.key) * 3 // 4] = 7
    weight = retraining.score_weights(loud)
    for b in (0, 1):
        here = (loud.backend == b) & (loud.score == loud.score)
        assert weight[here & (loud.key == 7)].sum() <= 0.21 * (weight[here].sum() + retraining.PRIOR)
