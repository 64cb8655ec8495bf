"""`bestserve tune`: the best parameters are found, and `evaluate` can read them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from bestserve.proxy.cli import main
from bestserve.proxy.evaluating import read_tuned
from bestserve.proxy.tuning import GRIDS, tuned

OPT = str(Path(__file__).parent.parent.parent / "bench" / "fleets" / "opt.yaml")


class Hill:
    """Rewards that are best at one point."""

    def __init__(self, *top: float) -> None:
        self.top = top

    def rewards(self, _: str, points: Sequence[tuple[float, ...]]) -> list[float]:
        """Less with the distance."""
        return [-sum((a - b) ** 2 for a, b in zip(point, self.top, strict=True)) for point in points]


@pytest.mark.parametrize(
    ("policy", "top"), [("deadline-greedy", (0.62,)), ("bid-price", (0.13, 1.8)), ("weighted-score", (0.6, 0.45, 0.2))]
)
def test_the_top_of_a_hill_is_found(policy, top):
    """To a fraction of the grid's step, and never worse than with the usual parameters."""
    found = tuned(policy, Hill(*top), rounds=6)
    assert found["parameters"] == pytest.approx(top, abs=0.05)
    assert found["reward"] >= found["usual_reward"]
    assert set(GRIDS) == {"deadline-greedy", "weighted-score", "bid-price"}


@pytest.mark.timeout(600)
def test_what_was_tuned_can_be_evaluated(tmp_path):
    """The file holds the policy's parameters, and no round makes it worse than it was."""
    out = tmp_path / "tuned.json"
    words = ["tune", "--fleet", OPT, "--workload", "poisson:40", "--duration", "5", "--policy", "deadline-greedy", "--seeds", "1"]
    result = CliRunner().invoke(main, [*words, "--rounds", "0", "--jobs", "1", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(out.read_text())
    found = json.loads(out.read_text())["policies"]["deadline-greedy"]
    assert found["reward"] >= found["usual_reward"]
    assert read_tuned(out) == {"deadline-greedy": tuple(found["parameters"])}


def test_a_policy_without_parameters_is_refused():
    """With those that have some."""
    result = CliRunner().invoke(main, ["tune", "--fleet", OPT, "--workload", "poisson:1", "--policy", "bidprice"])
    assert result.exit_code == 1
    assert "did you mean bid-price" in result.stderr
