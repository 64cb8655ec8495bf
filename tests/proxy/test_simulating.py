"""`bestserve simulate` as it is typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bestserve.proxy import simulating
from bestserve.proxy.cli import main

OPT = str(Path(__file__).parent.parent.parent / "bench" / "fleets" / "opt.yaml")
QWEN = str(Path(__file__).parent.parent.parent / "bench" / "fleets" / "qwen3.yaml")


def typed(*words: str) -> Result:
    """What the command says."""
    return CliRunner().invoke(main, ["simulate", "--fleet", OPT, *words])


@pytest.mark.timeout(600)
def test_a_simulation_says_the_same_each_time():
    """In JSON every figure that a summary has; shares are shares."""
    words = ("--workload", "poisson:10", "--policy", "bid-price", "--duration", "20", "--seed", "3")
    one, other = (typed(*words, "--json") for _ in range(2))
    assert one.exit_code == 0, one.output
    assert one.stdout == other.stdout
    said = json.loads(one.stdout)
    assert said["requests"] > 150
    assert sum(said["actions"].values()) == pytest.approx(1.0)
    assert 0.0 <= said["windows_98"] <= said["windows_96"] <= 1.0
    table = typed(*words)
    assert "on time" in table.stdout
    assert table.stderr == ""


@pytest.mark.timeout(600)
def test_it_matters_who_tells_the_tasks():
    """Choices that lean on tasks change with what is known of them; the requests do not."""
    words = ("--fleet", QWEN, "--workload", "poisson:60", "--policy", "bid-price", "--duration", "15", "--json", "--tasks-told")
    said = {teller: json.loads(typed(*words, teller).stdout) for teller in ("true", "classified", "none")}
    assert len({each["requests"] for each in said.values()}) == 1
    assert len({json.dumps(each["actions"]) for each in said.values()}) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--workload", "poisson:x", "--policy", "random"), "a rate must be"),
        (("--workload", "poisson:1", "--policy", "bidprice"), "did you mean bid-price"),
        (("--workload", "poisson:1", "--policy", "random", "--task-mix", "cde=1"), "did you mean code"),
    ],
)
def test_what_is_wrong_is_said_without_a_trace(words, said):
    """On standard error, with exit code 1."""
    result = typed(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    """Which extra."""
    monkeypatch.setattr(simulating, "find_spec", lambda _: None)
    result = typed("--workload", "poisson:1", "--policy", "random")
    assert result.exit_code == 1
    assert "pip install 'bestserve[train]'" in result.stderr
