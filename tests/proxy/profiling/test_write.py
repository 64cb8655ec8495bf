"""The file is a profile; what was not measured is the base's, or marked."""

import tomllib
from dataclasses import replace

import pytest

from bestserve.profiles import Source, find, load, parse
from bestserve.proxy.profiling.write import Facts, Given, changes, text
from tests.proxy.profiling.world import KNOWN

MEASURED = Source('bestserve profile on 2026-11-22, "SGLang" 0.5.23', "measured", 0.0213)
SAID = Source("what the backend says of itself", "measured")
ENGINE = {
    "prefill_tokens_per_s": (8123.456, MEASURED),
    "prefill_fixed_s": (0.0201234, MEASURED),
    "overhead_s": (0.0, Source("bestserve profile", "measured")),
    "step_fixed_s": (0.01, MEASURED),
    "step_per_seq_s": (0.001, MEASURED),
    "step_per_kv_token_s": (2.00012e-6, MEASURED),
    "max_running": (16, SAID),
    "kv_tokens": (40_000, SAID),
    "context": (4_096, SAID),
    "prefill_batch_tokens": (2_048, SAID),
}


def facts(**given: object) -> Facts:
    return Facts(Given("mine", **{"model": "org/Some-1.7B-Chat", **given}), ENGINE, "Measured on a day\nwith a command")  # type: ignore[arg-type]


def test_a_profile_without_a_base_says_what_it_assumes() -> None:
    """Constants to four digits with their sources; the size from the model's name; a quality that prefers nothing."""
    said = text(facts(gpu="H100", n_gpus=2), None)

    profile = parse(tomllib.loads(said))
    assert said.startswith("# Measured on a day\n# with a command\nschema = 1\n")
    assert (profile.name, profile.params_b, profile.gpu, profile.n_gpus) == ("mine", 1.7, "H100", 2)
    assert profile.engine.prefill_tokens_per_s == 8123
    assert profile.engine.step_per_kv_token_s == 2.0e-6
    assert profile.sources["engine.step_fixed_s"] == Source('bestserve profile on 2026-11-22, "SGLang" 0.5.23', "measured", 0.021)
    assert set(profile.quality.values()) == {0.5}
    assert {profile.sources[f"quality.{task}"].how for task in profile.quality} == {"assumed"}


@pytest.mark.parametrize("name", ["qwen3-8b-h100", "smollm2-135m-cpu"])
def test_everything_but_the_engine_is_the_bases(name: str) -> None:
    """Quality, lengths, size, price and what it can, each with its source, as they were."""
    base, new = load(name), parse(tomllib.loads(text(facts(), find(name))))

    assert new.engine.step_fixed_s == 0.01
    assert (new.model, new.params_b, new.usd_per_hour, new.capabilities) == (
        base.model,
        base.params_b,
        base.usd_per_hour,
        base.capabilities,
    )
    assert (new.quality, new.lengths, new.budget_effect) == (base.quality, base.lengths, base.budget_effect)
    assert (new.quality_thinking, new.lengths_thinking) == (base.quality_thinking, base.lengths_thinking)
    kept = {path: source for path, source in base.sources.items() if not path.startswith("engine.") and path != "n_gpus"}
    assert kept.items() <= new.sources.items()


def test_a_table_within_a_table_keeps_its_place(tmp_path) -> None:
    """What a budget does to an answer is nested, and comes out as it went in."""
    base = tmp_path / "base.toml"
    base.write_text(
        find("qwen3-8b-h100").read_text() + "\n[budget_effect.kept_when_cut]\ncode = 0.1\n[budget_effect.length_when_concise]\nqa = 0.5\n"
    )

    new = parse(tomllib.loads(text(facts(), base)))

    assert new.budget_effect.kept_when_cut["code"] == 0.1
    assert new.budget_effect.length_when_concise["qa"] == 0.5


@pytest.mark.parametrize(
    ("model", "size"), [("Qwen/Qwen3-0.6B", 0.6), ("SmolLM2-135M-Instruct", 0.135), ("meta-llama/Llama-3.1-70b", 70.0), ("gpt-5", 1.0)]
)
def test_the_size_is_read_from_a_name_that_tells_it(model: str, size: float) -> None:
    """In billions; a name that does not tell gets a marked guess, and a word of ours wins."""
    assert parse(tomllib.loads(text(facts(model=model), None))).params_b == size
    assert parse(tomllib.loads(text(facts(model=model, params_b=3.0), None))).params_b == 3.0


def test_what_changed_is_told_with_the_interval() -> None:
    """An old value within 1.96 errors of the new is within; another is not; one that only one of them has is left out."""
    old = replace(load("qwen3-8b-h100"), engine=replace(KNOWN, prefill_tokens_per_s=8000, step_fixed_s=0.02))

    told = {change.name: change for change in changes(old, ENGINE)}

    assert told["prefill_tokens_per_s"].within
    assert told["prefill_tokens_per_s"].ratio == pytest.approx(1.0154, abs=1e-3)
    assert not told["step_fixed_s"].within
    assert told["step_fixed_s"].ratio == 0.5
    assert told["max_running"].within
    assert set(told) == set(ENGINE)
