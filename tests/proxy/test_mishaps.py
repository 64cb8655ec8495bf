"""What goes wrong on purpose: as it was said, the same for everybody, or refused by name."""

import math

import numpy as np
import pytest
from click.testing import CliRunner

from bestserve.policy.scene import Places, Trouble
from bestserve.proxy.cli import main
from bestserve.proxy.entrants import entrant
from bestserve.proxy.mishaps import BadMishap, Mishaps, mishaps_of
from tests.policy.facts_by_hand import BUDGETS, LADDER
from tests.proxy.simulated import simulated

PLACES = Places(LADDER, BUDGETS)
FLEET = """
backends:
  - {name: small, profile: qwen3-1.7b-h100}
  - {name: large, profile: qwen3-32b-h100}
budgets: [none, 128]
"""


def test_troubles_are_read():
    """One dies, one is slow for a while."""
    found = mishaps_of(1.0, ["large=down@10-20.5", "small=2.5x@0-5"], PLACES)

    assert found.troubles == (Trouble(2, down=(10.0, 20.5)), Trouble(0, slow=(0.0, 5.0), slowness=2.5))
    assert found.befall(PLACES, 3).troubles == found.troubles


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("large", "is not NAME=down@FROM-TO"),
        ("large=down@5", "is not NAME=down@FROM-TO"),
        ("lagre=down@1-2", "the fleet has small, medium, large; did you mean large"),
        ("large=down@9-3", "ends before it begins"),
    ],
)
def test_what_cannot_go_wrong_is_refused(word, why):
    """With the form, or the names that there are."""
    with pytest.raises(BadMishap, match=why.replace("?", r"\?")):
        mishaps_of(1.0, [word], PLACES)


def test_profiles_are_wrong_by_the_seed_and_no_more_than_was_said():
    """Beliefs stay; the truth is the same for each policy of a seed, another for each seed, and within the factor."""
    one, same, other = (Mishaps(2.0).befall(PLACES, seed) for seed in (1, 1, 2))

    assert one == same != other
    assert one.backends == LADDER
    ratios = [true.engine.step_fixed_s / believed.profile.engine.step_fixed_s for true, believed in zip(one.true, LADDER, strict=True)]
    assert all(0.5 <= ratio <= 2.0 for ratio in ratios)
    assert len(set(ratios)) == 3
    assert Mishaps().befall(PLACES, 1) == PLACES


def test_a_fleet_that_is_told_believes_what_is_true():
    """Engines and lengths; the truth is that of those who are not told."""
    told, untold = (Mishaps(2.0, told=told).befall(PLACES, 1) for told in (True, False))

    assert told.true == untold.true == tuple(backend.profile for backend in told.backends)
    assert told.length_factor == untold.length_factor
    assert [math.exp(backend.longer[0]) for backend in told.backends] == pytest.approx(list(told.length_factor))


def test_static_serving_has_the_same_troubles():
    """One of the GPUs that all run one model is the one that dies."""
    places = mishaps_of(1.0, ["large=down@1-2"], PLACES).befall(PLACES, 0)

    assert [t.backend for t in entrant("static-all:small", places).places.troubles] == [2]


def test_a_dying_backend_costs_what_it_served(tmp_path):
    """Through the command line: while the large one is dead nobody is answered by it, and the others answer."""
    fleet, words = tmp_path / "f.yaml", ("--policy", "deadline-greedy", "--duration", "30")
    fleet.write_text(FLEET)

    calm, dead = (simulated(fleet, "poisson:4", *words, *more) for more in ((), ("--trouble", "large=down@0-30")))

    assert sum(share for action, share in calm["actions"].items() if action.startswith("large")) > 0.5
    assert dead["quality"] < calm["quality"]
    assert dead["on_time"] > 0.9
    assert np.isclose(sum(dead["actions"].values()), 1.0)


def test_a_bad_word_is_said_on_the_command_line(tmp_path):
    """Before anything is played."""
    (tmp_path / "f.yaml").write_text(FLEET)
    words = ["evaluate", "--fleet", str(tmp_path / "f.yaml"), "--workload", "poisson:4", "--policy", "random", "--trouble", "huge=down@0-3"]

    said = CliRunner().invoke(main, words)

    assert said.exit_code == 1
    assert "the fleet has small, large" in said.output
