"""`bestserve train`: a folder with a policy in it, that can be stopped and gone on with."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bestserve.proxy.checkpoints import load
from bestserve.proxy.cli import main

pytestmark = pytest.mark.timeout(600)
FLEET = str(Path(__file__).parent.parent.parent / "bench" / "fleets" / "qwen3.yaml")


def train(out: Path, *words: str, iterations: int = 2) -> Result:
    small = ["--scenes", "10", "--search-scenes", "1", "--jobs", "1", "--iterations", str(iterations)]
    return CliRunner().invoke(main, ["train", "--fleet", FLEET, "--out", str(out), *small, *words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("train") / "a"
    done = train(out, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["iterations"] == 2
    return out


def test_the_folder_holds_a_policy_and_how_it_came_about(trained):
    """A checkpoint that loads, a line for every epoch and iteration and for what was kept, and the curves."""
    checkpoint = load(trained / "policy.ckpt")
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert checkpoint.about["fleets"] == ["qwen3.yaml"]
    assert [line["kind"] for line in lines] == ["critic"] * 4 + ["search"] * 2 + ["kept"]
    assert (checkpoint.low <= checkpoint.high).all()
    assert (trained / "curves.html").read_text().count("<svg") == 5


def test_it_goes_on_where_it_stopped(trained):
    """Nothing is overwritten unasked; with --resume the critic stands, and one more iteration is one more line, before what is kept."""
    before = (trained / "critic.npz").read_bytes(), (trained / "log.jsonl").read_text()
    again, more = train(trained, iterations=3), train(trained, "--resume", iterations=3)
    other = train(trained, "--resume", "--seed", "9")
    assert again.exit_code == other.exit_code == 1
    assert "go on with --resume, or name another folder" in again.output
    assert "holds a training of other fleets or arguments" in other.output
    assert more.exit_code == 0, more.output
    assert (trained / "critic.npz").read_bytes() == before[0]
    after = (trained / "log.jsonl").read_text()
    assert after.startswith(before[1])
    assert after.count("\n") == before[1].count("\n") + 2


def test_what_was_trained_can_be_evaluated(trained):
    """As a policy by its file's name; a damaged one is refused with its name."""
    words = ["evaluate", "--fleet", FLEET, "--workload", "poisson:5", "--duration", "10", "--seeds", "1", "--jobs", "1", "--json"]
    done = CliRunner().invoke(main, [*words, "--policy", str(trained / "policy.ckpt"), "--policy", "bid-price"])
    assert done.exit_code == 0, done.output
    assert {line["policy"] for line in json.loads(done.stdout)["results"]} >= {"bid-price"}
    bad = trained / "bad.ckpt"
    bad.write_bytes((trained / "policy.ckpt").read_bytes()[:1000])
    refused = CliRunner().invoke(main, [*words, "--policy", str(bad)])
    assert refused.exit_code == 1
    assert "bad.ckpt: these bytes are no checkpoint" in refused.output


def test_a_fleet_that_does_not_exist_is_told():
    """Before anything is played."""
    done = CliRunner().invoke(main, ["train", "--fleet", "nowhere.yaml", "--out", "nowhere"])
    assert done.exit_code == 1
    assert "nowhere.yaml" in done.output
    assert not Path("nowhere").exists()
