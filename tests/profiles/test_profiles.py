"""The profiles that ship with the package, and how a profile is found."""

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from bestserve.profiles import TASKS, BadProfile, BudgetEffect, Engine, Profile, load, names
from bestserve.profiles.schema import HOWS

LADDER = [f"qwen3-{size}-h100" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b")]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "profiles.md"


@pytest.fixture
def ladder():
    return [load(name) for name in LADDER]


@pytest.mark.parametrize("name", names())
def test_what_is_shipped_parses(name):
    """Each has the name of its file, a quality for every task, and every quality in [0, 1]."""
    profile = load(name)

    assert profile.name == name
    assert set(profile.quality) == set(TASKS)
    assert all(0 <= score <= 1 for score in profile.quality.values())
    assert profile.engine.context <= profile.engine.kv_tokens


@pytest.mark.parametrize("name", names())
def test_every_shipped_number_says_where_it_comes_from(name):
    """Engine constants and qualities alike."""
    profile = load(name)
    needed = {f"engine.{f.name}" for f in fields(Engine) if getattr(profile.engine, f.name) != f.default}
    needed |= {f"quality.{task}" for task in TASKS}

    assert needed <= set(profile.sources)
    assert all(source.source and source.how in HOWS for source in profile.sources.values())


def test_the_ladder_is_shipped():
    """Six sizes of one family, each on one H100."""
    assert set(LADDER) <= set(names())


@pytest.mark.parametrize("name", LADDER)
def test_a_ladder_file_sources_its_head_too(name):
    """Size, count and price are numbers as well; a fitted number tells its error."""
    sources = load(name).sources

    assert {"params_b", "n_gpus", "usd_per_hour"} <= set(sources)
    assert all(s.error is not None for s in sources.values() if s.how == "fitted")


def test_a_bigger_model_is_slower_and_holds_less(ladder):
    """At one sequence and at 64, in decode and in prefill; and its context never has more room."""
    for small, big in pairwise(ladder):
        assert small.params_b < big.params_b
        assert small.engine.step_s(1, 500) < big.engine.step_s(1, 500)
        assert small.engine.step_s(64, 32_000) < big.engine.step_s(64, 32_000)
        assert small.engine.prefill_s(1000) < big.engine.prefill_s(1000)
        assert small.engine.kv_tokens >= big.engine.kv_tokens


def test_a_step_is_never_faster_than_the_memory(ladder):
    """Two bytes a parameter of the layers at 3.35 TB/s bound a step from below; embeddings are at most half of the smallest."""
    for profile in ladder:
        assert profile.engine.step_fixed_s > profile.params_b * 1e9 * 2 * 0.9 / 3.35e12


def test_the_largest_writes_better_than_the_smallest(ladder):
    """Neighbours may cross where the published scores do; the ends of the ladder do not."""
    for task in TASKS:
        assert ladder[-1].quality[task] > ladder[0].quality[task]


def test_a_published_constant_is_reproduced(ladder):
    """SGLang's median gap for Qwen3-8B with four in flight on one H100 is 7.04 ms."""
    eight = ladder[3]

    assert eight.engine.step_s(4, 4 * 340) == pytest.approx(7.04e-3, rel=0.02)


def test_an_unknown_name_lists_what_is_shipped():
    """The message is also the list."""
    with pytest.raises(BadProfile, match=r"^profile 'nope' is not shipped .*shipped: .*qwen3-0\.6b-h100") as caught:
        load("nope")

    assert all(name in str(caught.value) for name in names())


def test_a_file_is_loaded_by_its_path(tmp_path):
    """Text or Path; the profile is called what the file is called."""
    text = Path(__file__).resolve().parents[2].joinpath("profiles", "qwen3-8b-h100.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")

    assert load(path).name == "mine"
    assert load(str(path)).engine == load("qwen3-8b-h100").engine


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "mine.toml: "),
        (b"schema = ", "mine.toml: "),
        (b"\xff\xfe", "mine.toml: "),
        (b"modle = 'x'", "mine.toml: modle: unknown key; did you mean model"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, message):
    """Missing, broken, not text, or not a profile: one exception, with the file's name."""
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BadProfile, match=message):
        load(path)


def test_the_page_names_every_key():
    """docs/profiles.md has a line for each key of the engine and each task."""
    page = DOCS.read_text(encoding="utf-8")

    assert all(f"`{f.name}`" in page for f in (*fields(Engine), *fields(Profile), *fields(BudgetEffect)))
    assert all(f"`{task}`" in page for task in TASKS)
    assert all(f"`{how}`" in page for how in HOWS)


def test_the_page_gives_the_constants_that_are_shipped(ladder):
    """Its table of constants is the files' own."""
    page = DOCS.read_text(encoding="utf-8")

    for p in ladder:
        e = p.engine
        cells = [
            p.name,
            f"{e.step_fixed_s * 1e3:.2f}",
            f"{e.step_per_seq_s * 1e6:.1f}",
            f"{e.step_per_kv_token_s * 1e9:.1f}",
            f"{e.prefill_tokens_per_s:,.0f}",
            f"{e.prefill_fixed_s * 1e3:.1f}",
            f"{e.kv_tokens:,}",
            f"{e.context:,}",
        ]
        assert "| " + " | ".join(cells) + " |" in page
