"""A profile's numbers as a prior, what was measured as evidence."""

import math

import pytest

from bestserve import profiles
from bestserve.policy.estimate import LogNormal, wilson
from bestserve.proxy.quality import merge as merging
from bestserve.proxy.quality.budgets import parse
from bestserve.proxy.quality.merge import PRIOR, UNSAID, merge, write
from bestserve.proxy.quality.tally import Cell, Effect, Shortening, Tally

BASE = """# a comment that stays
model = "m"
params_b = 1
gpu = "none"
n_gpus = 1
[engine]
prefill_tokens_per_s = 50000
prefill_fixed_s = 0.001
step_fixed_s = { value = 0.001, source = "somebody", how = "measured" }
step_per_seq_s = 0.00001
step_per_kv_token_s = 0.0000001
max_running = 64
kv_tokens = 400000
context = 8192
prefill_batch_tokens = 8192
[quality]
code = { value = 0.2, source = "a report", how = "published" }
math = { value = 0.6, source = "a report", how = "published", error = 0.1 }
""" + "\n".join(f"{task} = 0.5" for task in profiles.TASKS if task not in ("code", "math"))


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.toml"
    path.write_text(BASE)
    return path


def seen(**tasks):
    """A tally of tasks: quality (mean, n), with what else a test wants in Effect and length."""
    cells, effects = {}, {}
    for task, told in tasks.items():
        cells[task, 0] = Cell(wilson(*told["quality"]), 0.0, told.get("length"))
        effects[task] = Effect(told.get("cut"), told.get("concise"), told.get("shorter"))
    return Tally(parse("none,64:Short."), cells, effects)


def by_path(numbers):
    return {n.path: n for n in numbers}


def test_a_quality_moves_by_the_weight_of_what_was_seen(base):
    """Thirty published answers' worth against thirty that were scored: half way; a bare number weighs little."""
    got = by_path(merge(profiles.load(base), seen(code={"quality": (0.8, 30)}, qa={"quality": (1.0, 15)}), command="c", own=False))

    assert got["quality.code"].after == pytest.approx((PRIOR["published"] * 0.2 + 30 * 0.8) / (PRIOR["published"] + 30))
    assert got["quality.qa"].after == pytest.approx((UNSAID * 0.5 + 15) / (UNSAID + 15))
    assert set(got) == {"quality.code", "quality.qa"}


def test_an_error_says_a_priors_weight(base):
    """A tenth of 0.6 is what 65.7 answers would leave."""
    got = by_path(merge(profiles.load(base), seen(math={"quality": (0.0, 20)}), command="c", own=False))

    weight = 0.6 * 0.4 / 0.06**2 - 1
    assert got["quality.math"].after == pytest.approx(0.6 * weight / (weight + 20))


def test_the_weight_can_be_told(base):
    """None at all takes the measurement as it is."""
    got = by_path(merge(profiles.load(base), seen(math={"quality": (0.25, 20)}), command="c", own=False, prior=0.0))

    assert got["quality.math"].after == pytest.approx(0.25)


def test_budget_effects_are_merged_too(base):
    """Shares by their trials, and the shortening in the logarithm; what was not measured is not written."""
    told = {"quality": (0.5, 10), "cut": wilson(0.5, 10), "concise": wilson(0.0, 0), "shorter": Shortening(0.25, 0.1, 20)}
    profile = profiles.load(base)

    got = by_path(merge(profile, seen(chat=told), command="c", own=False))

    assert got["budget_effect.kept_when_cut.chat"].after == pytest.approx((UNSAID * 0.3 + 5) / (UNSAID + 10))
    assert "budget_effect.kept_when_concise.chat" not in got
    before = profile.budget_effect.length_when_concise["chat"]
    assert got["budget_effect.length_when_concise.chat"].after == pytest.approx(before * (0.25 / before) ** (20 / (20 + UNSAID)))


def test_lengths_are_merged_from_ones_own_prompts_alone(base):
    """The shipped prompts say nothing about how long anybody's answers are."""
    told = {"quality": (0.5, 10), "length": LogNormal(300.0, 0.5, 200.0, 400.0, 20)}
    profile = profiles.load(base)

    shipped = by_path(merge(profile, seen(write=told), command="c", own=False))
    own = by_path(merge(profile, seen(write=told), command="c", own=True))

    assert "lengths.write" not in shipped
    before = profile.lengths["write"].median
    assert own["lengths.write"].after == pytest.approx(math.exp((UNSAID * math.log(before) + 20 * math.log(300)) / (UNSAID + 20)))
    assert 0.5 < own["lengths.write"].fields["sigma"] < profile.lengths["write"].sigma + 0.1


def test_the_new_file_is_a_profile_with_its_sources(base, tmp_path):
    """Comments and other numbers stay; each new number says how many answers and which prior went into it."""
    profile = profiles.load(base)
    told = {"quality": (0.9, 10), "cut": wilson(0.5, 4), "shorter": Shortening(0.5, 0.1, 9), "length": LogNormal(99.0, 0.5, 80.0, 120.0, 9)}
    numbers = merge(profile, seen(code=told), command="bestserve quality on 2026-01-01, mine.jsonl", own=True)

    write(base, numbers, tmp_path / "new.toml")
    new = profiles.load(tmp_path / "new.toml")

    assert "# a comment that stays" in (tmp_path / "new.toml").read_text()
    assert new.name == "new"
    assert new.engine == profile.engine
    assert new.sources["engine.step_fixed_s"] == profile.sources["engine.step_fixed_s"]
    assert new.quality["code"] == pytest.approx(by_path(numbers)["quality.code"].after, abs=1e-4)
    source = new.sources["quality.code"]
    assert source.how == "measured"
    assert "n=10" in source.source
    assert "prior 0.2 as 30 answers (published: a report)" in source.source
    assert source.error is not None
    assert {n.path for n in numbers} <= set(new.sources)
    assert new.lengths["code"].median == by_path(numbers)["lengths.code"].fields["median"]
    assert new.quality["qa"] == 0.5


def test_what_was_measured_by_us_before_is_told(base, tmp_path):
    """A second merge into its own result would count answers twice."""
    tally = seen(code={"quality": (0.9, 10)})
    first = merge(profiles.load(base), tally, command=f"{merging.MARKS[0]} on a day", own=False)
    write(base, first, tmp_path / "new.toml")

    assert merging.again(profiles.load(base), first) == []
    assert merging.again(profiles.load(tmp_path / "new.toml"), first) == ["quality.code"]


def test_a_shipped_profile_can_be_merged_into(tmp_path):
    """By its name; the result is a file of its own."""
    profile = profiles.load("qwen3-8b-h100")
    told = {"quality": (0.9, 28), "cut": wilson(0.1, 4), "concise": wilson(0.9, 20), "shorter": Shortening(0.5, 0.1, 9)}

    write("qwen3-8b-h100", merge(profile, seen(math=told), command="c", own=False), tmp_path / "mine.toml")

    new = profiles.load(tmp_path / "mine.toml")
    assert new.quality["math"] != profile.quality["math"]
    assert new.engine == profile.engine


def test_a_file_is_written_whole_or_not_at_all(base, tmp_path):
    """What cannot be read back leaves the old file as it was, and nothing beside it."""
    out = tmp_path / "out" / "new.toml"
    out.parent.mkdir()
    out.write_text("old")
    bad = merging.Merged("quality.code", 0.2, 0.2, 0.2, {"value": 7.0})

    with pytest.raises(profiles.BadProfile, match=r"quality\.code"):
        write(base, [bad], out)

    assert out.read_text() == "old"
    assert [p.name for p in out.parent.iterdir()] == ["new.toml"]
