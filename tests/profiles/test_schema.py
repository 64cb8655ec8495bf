"""A profile that cannot be used is refused, and the message names the key."""

import copy
from typing import Any

import pytest

from bestserve.profiles import TASKS, BadProfile, Source, parse

ENGINE = {
    "prefill_tokens_per_s": 10_000,
    "prefill_fixed_s": 0.004,
    "step_fixed_s": 0.007,
    "step_per_seq_s": 1e-5,
    "step_per_kv_token_s": 6e-8,
    "max_running": 256,
    "kv_tokens": 100_000,
    "context": 32_768,
    "prefill_batch_tokens": 8192,
}
GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "small",
    "model": "an/example",
    "params_b": 8.2,
    "gpu": "H100-80GB",
    "n_gpus": 1,
    "usd_per_hour": 2.5,
    "capabilities": ["tools", "json"],
    "engine": ENGINE,
    "quality": dict.fromkeys(TASKS, 0.5),
}


def but(path: str, value: Any) -> dict[str, Any]:
    """GOOD with another value at a dotted path."""
    mapping = copy.deepcopy(GOOD)
    *tables, key = path.split(".")
    table = mapping
    for name in tables:
        table = table[name]
    table[key] = value
    return mapping


def without(path: str) -> dict[str, Any]:
    mapping = but(path, None)
    *tables, key = path.split(".")
    table = mapping
    for name in tables:
        table = table[name]
    del table[key]
    return mapping


def test_bare_numbers_are_read_and_have_no_source():
    """Provenance may be left out; types are those of the dataclasses."""
    profile = parse(GOOD)

    assert profile.name == "small"
    assert profile.capabilities == {"tools", "json"}
    assert profile.engine.max_running == 256
    assert isinstance(profile.engine.max_running, int)
    assert isinstance(profile.engine.prefill_tokens_per_s, float)
    assert profile.engine.max_queued is None
    assert profile.quality == dict.fromkeys(TASKS, 0.5)
    assert profile.sources == {}


def test_a_number_may_bring_its_source():
    """The number stays a plain float, the source is kept under the dotted path."""
    table = {"value": 0.007, "source": "a bench", "how": "fitted", "error": 0.08}

    profile = parse(but("engine.step_fixed_s", table))

    assert profile.engine.step_fixed_s == 0.007
    assert profile.sources == {"engine.step_fixed_s": Source("a bench", "fitted", 0.08)}


def test_a_source_that_many_share_may_stand_once():
    """Under a short name in `references`; a source that is no such name is meant as it stands."""
    mapping = but("engine.step_fixed_s", {"value": 0.007, "source": "runs", "how": "fitted"})
    mapping["params_b"] = {"value": 8.2, "source": "its card", "how": "published"}

    sources = parse({**mapping, "references": {"runs": "a bench at a commit"}}).sources

    assert sources["engine.step_fixed_s"].source == "a bench at a commit"
    assert sources["params_b"].source == "its card"
    with pytest.raises(BadProfile, match=r"^references\.runs: must be a text"):
        parse({**mapping, "references": {"runs": 3}})


def test_an_error_of_a_source_may_be_left_out():
    """Not every number has a known error."""
    profile = parse(but("quality.code", {"value": 0.3, "source": "a paper", "how": "published"}))

    assert profile.sources["quality.code"].error is None


def test_the_given_name_wins_over_the_one_inside():
    """A file is called what it is called."""
    assert parse(GOOD, name="other").name == "other"


@pytest.mark.parametrize("key", ["usd_per_hour", "capabilities", "schema"])
def test_some_keys_may_be_left_out(key):
    """A price, capabilities and the schema's number have a default."""
    profile = parse(without(key))

    assert profile.usd_per_hour in (None, 2.5)


def test_the_waiting_line_may_be_bounded():
    """`max_queued` is optional and may be zero: then nothing waits."""
    assert parse(but("engine.max_queued", 0)).engine.max_queued == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("modle", r"^modle: unknown key; did you mean model\?$"),
        ("engine.step_fixd_s", r"^engine\.step_fixd_s: unknown key; did you mean engine\.step_fixed_s\?$"),
        ("quality.codes", r"^quality\.codes: unknown key; did you mean quality\.code\?$"),
        ("zzzzz", r"^zzzzz: unknown key$"),
    ],
)
def test_an_unknown_key_names_the_nearest(path, message):
    """A slip of the pen is told as one."""
    with pytest.raises(BadProfile, match=message):
        parse(but(path, 1))


@pytest.mark.parametrize(
    "path",
    ["model", "gpu", "name", "params_b", "n_gpus", "engine", "quality", "engine.kv_tokens", "quality.chat"],
)
def test_a_missing_key_is_named(path):
    """Everything else is required."""
    with pytest.raises(BadProfile, match=f"^{path}: "):
        parse(without(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, -0.001, "7", True, None, [1]])
@pytest.mark.parametrize("path", ["params_b", "usd_per_hour", "engine.step_per_seq_s", "quality.math"])
def test_what_is_not_a_number_of_at_least_0_is_refused(path, value):
    """NaN, infinity, negative numbers, texts and booleans alike."""
    with pytest.raises(BadProfile, match=f"^{path}: must be a number of at least 0"):
        parse(but(path, value))
    with pytest.raises(BadProfile, match=f"^{path}: must be a number of at least 0"):
        parse(but(path, {"value": value, "source": "a bench", "how": "measured"}))


@pytest.mark.parametrize(
    "path",
    [
        "params_b",
        "n_gpus",
        "engine.prefill_tokens_per_s",
        "engine.step_fixed_s",
        "engine.max_running",
        "engine.kv_tokens",
        "engine.context",
        "engine.prefill_batch_tokens",
    ],
)
def test_what_must_be_positive_is_not_zero(path):
    """A backend that takes no time, or holds nothing, would break every prediction."""
    with pytest.raises(BadProfile, match=f"^{path}: must be greater than 0"):
        parse(but(path, 0))


@pytest.mark.parametrize("path", ["n_gpus", "engine.max_running", "engine.kv_tokens", "engine.max_queued"])
def test_a_count_is_a_whole_number(path):
    """Half a sequence is a slip, not something to round."""
    with pytest.raises(BadProfile, match=f"^{path}: must be a whole number, is 1.5"):
        parse(but(path, 1.5))


def test_a_remembered_token_may_cost_something():
    """A share of an uncached one's time; nothing unless it is said, and never more than an uncached one."""
    assert parse(GOOD).engine.prefill_cached_cost == 0
    assert parse(but("engine.prefill_cached_cost", 0.02)).engine.prefill_cached_cost == 0.02
    with pytest.raises(BadProfile, match=r"^engine\.prefill_cached_cost: must be in \[0, 1\], is 2\.0$"):
        parse(but("engine.prefill_cached_cost", 2))


def test_quality_is_at_most_1():
    """A score in per cent is a slip that is easily made."""
    with pytest.raises(BadProfile, match=r"^quality\.code: must be in \[0, 1\], is 31\.3$"):
        parse(but("quality.code", 31.3))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"source": "a", "how": "fitted"}, r"engine\.step_fixed_s\.value: is missing"),
        ({"value": 1, "source": "a"}, r"engine\.step_fixed_s\.how: must be one of measured, .*, is None"),
        ({"value": 1, "source": "a", "how": "guessed"}, r"engine\.step_fixed_s\.how: .*'guessed'"),
        ({"value": 1, "how": "fitted"}, r"engine\.step_fixed_s\.source: must be a text"),
        ({"value": 1, "source": "", "how": "fitted"}, r"engine\.step_fixed_s\.source: must be a text"),
        ({"value": 1, "source": 3, "how": "fitted"}, r"engine\.step_fixed_s\.source: must be a text"),
        ({"value": 1, "source": "a", "hwo": "fitted"}, r"step_fixed_s\.hwo: unknown key; did you mean .*\.how\?"),
    ],
)
def test_a_source_table_is_checked(table, message):
    """A number that claims a source has a whole one."""
    with pytest.raises(BadProfile, match=message):
        parse(but("engine.step_fixed_s", table))


@pytest.mark.parametrize("error", [float("nan"), -0.1, "8 %", True])
def test_an_error_is_a_number_of_at_least_0(error):
    """It is used in arithmetic as much as the value."""
    table = {"value": 1, "source": "a", "how": "fitted", "error": error}
    with pytest.raises(BadProfile, match=r"^engine\.step_fixed_s\.error: must be a number of at least 0"):
        parse(but("engine.step_fixed_s", table))


@pytest.mark.parametrize("value", ["tools", [1], [""], {"tools": True}])
def test_capabilities_are_a_list_of_texts(value):
    """A bare text would fall apart into letters."""
    with pytest.raises(BadProfile, match=r"^capabilities: must be a list of texts"):
        parse(but("capabilities", value))


@pytest.mark.parametrize("key", ["engine", "quality"])
def test_a_table_is_a_table(key):
    """`engine = 3` is named, not a crash."""
    with pytest.raises(BadProfile, match=f"^{key}: must be a table"):
        parse(but(key, 3))


def test_another_schema_is_refused():
    """A later file is not half read."""
    with pytest.raises(BadProfile, match=r"^schema: 2 is not 1"):
        parse(but("schema", 2))


def test_the_two_formulas():
    """A step and a prefill batch cost what the docstring of Engine says."""
    engine = parse(GOOD).engine

    assert engine.step_s(10, 5000) == pytest.approx(0.007 + 10 * 1e-5 + 5000 * 6e-8)
    assert engine.prefill_s(2000) == pytest.approx(0.004 + 0.2)
