"""Fleet files: what they make, and what is said of a wrong one."""

from pathlib import Path

import pytest

from bestserve.policy.facts import SLO
from bestserve.proxy.fleet_file import BadConfig, read

FLEETS = Path(__file__).parent.parent.parent / "bench" / "fleets"


def wrong(tmp_path: Path, text: str) -> str:
    """What is said of a file."""
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    with pytest.raises(BadConfig) as refused:
        read({}, path)
    return str(refused.value)


@pytest.mark.parametrize(("name", "n"), [("opt", 4), ("qwen3", 3), ("qwen3-6", 6)])
def test_the_fleets_that_ship_can_be_read(name, n):
    """As many backends as they say."""
    assert len(read({}, FLEETS / f"{name}.yaml").places.backends) == n


def test_some_alike_are_numbered(tmp_path):
    """Two of a profile have two names; budgets and deadlines are as written."""
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "backends: [{name: a, profile: opt-1.3b-a100, count: 2}]\nbudgets: [none, 64]\nslo: {ttft_ms: 500, tpot_ms: none, kind: soft}"
    )
    fleet = read({}, path)
    assert [backend.name for backend in fleet.places.backends] == ["a-1", "a-2"]
    assert [budget.name for budget in fleet.places.budgets] == ["none", "64"]
    assert fleet.slo == SLO(0.5, None, None, hard=False)


def test_a_config_to_serve_with_is_a_fleet(tmp_path):
    """Its backends, budgets and default deadlines; whatever else it says is read and has to be right."""
    path = tmp_path / "bestserve.yaml"
    text = "backends: [{name: a, url: http://127.0.0.1:1, model: m, profile: opt-1.3b-a100}]\nbudgets: [none, 64]\nslo: {ttft_ms: 700}\n"
    path.write_text(text + "listen: {port: 0}\n")
    fleet = read({}, path)
    assert [backend.model for backend in fleet.places.backends] == ["m"]
    assert fleet.slo.ttft_s == 0.7
    assert "listen.prot: unknown key; did you mean listen.port?" in wrong(tmp_path, text + "listen: {prot: 0}\n")


def test_a_wrong_key_is_named_with_the_nearest_right_one(tmp_path):
    """And its line."""
    said = wrong(tmp_path, "backends:\n  - {name: a, profil: opt-1.3b-a100}\n")
    assert "fleet.yaml:2: backends[0].profil: unknown key; did you mean backends[0].profile?" in said
    assert "backends[0].profile: is missing" in said


def test_a_profile_that_is_not_there_is_named(tmp_path):
    """With the nearest that ships."""
    assert "did you mean opt-1.3b-a100?" in wrong(tmp_path, "backends: [{name: a, profile: opt-1.3-a100}]")


def test_names_must_not_meet_and_backends_have_a_bound(tmp_path):
    """Also once they are counted out."""
    twice = "backends: [{name: a, profile: opt-1.3b-a100, count: 2}, {name: a-1, profile: opt-125m-a100}]"
    assert "'a-1' is the name of more than one" in wrong(tmp_path, twice)
    many = ", ".join(f"{{name: b{i}, profile: opt-125m-a100, count: 40}}" for i in range(2))
    assert "80 backends are more than the 64" in wrong(tmp_path, f"backends: [{many}]")


def test_a_file_that_is_not_there_is_said(tmp_path):
    """In words."""
    with pytest.raises(BadConfig, match="cannot be read"):
        read({}, tmp_path / "none.yaml")
