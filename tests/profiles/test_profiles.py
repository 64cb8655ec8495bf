"""The profiles that ship with the package, and how a profile is found."""

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from bestserve.profiles import TASKS, BadProfile, BudgetEffect, Engine, Profile, load, names
from bestserve.profiles.schema import HOWS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "profiles.md"
SIZES = {
    "qwen3": ("0.6b", "1.7b", "4b", "8b", "14b", "32b"),
    "qwen2.5": ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b"),
    "llama3": ("1b", "3b", "8b", "70b"),
    "opt": ("125m", "1.3b", "6.7b"),
}
BANDWIDTH = {"a100": 2.039e12, "h100": 3.35e12, "h200": 4.8e12, "l4": 0.3e12}  # published, bytes/s of one
LADDERS = [
    *((family, "a100", len(sizes)) for family, sizes in SIZES.items()),
    *((family, "h100", len(SIZES[family])) for family in ("qwen3", "qwen2.5", "llama3")),
    ("qwen3", "h200", 6),
    ("qwen3", "l4", 4),
    ("qwen2.5", "l4", 4),
    ("llama3", "l4", 3),
]


def ladder_of(family, gpu, n):
    """The smallest n sizes; a model that needs several GPUs says so in its name."""
    found = []
    for size in SIZES[family][:n]:
        name = f"{family}-{size}-{gpu}"
        found.append(load(next(shipped for shipped in names() if shipped == name or shipped.startswith(name + "-tp"))))
    return found


@pytest.fixture(params=LADDERS, ids=lambda param: f"{param[0]}-{param[1]}")
def ladder(request):
    return ladder_of(*request.param)


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


def test_whatever_is_fitted_or_bridged_tells_its_error(ladder):
    """And size, count and price are numbers that have a source as well."""
    for profile in ladder:
        assert {"params_b", "n_gpus", "usd_per_hour"} <= set(profile.sources)
        assert all(
            source.error is not None
            for path, source in profile.sources.items()
            if path.startswith("engine.") and source.how in ("fitted", "interpolated")
        )


def test_a_bigger_model_is_slower_and_holds_less(ladder):
    """At one sequence and at 32, in decode and in prefill, for each GPU that it takes; and its context never has more room."""
    for small, big in pairwise(ladder):
        gpus = big.n_gpus / small.n_gpus
        assert small.params_b < big.params_b
        assert small.engine.step_s(1, 500) < gpus * big.engine.step_s(1, 500)
        assert small.engine.step_s(32, 16_000) < gpus * big.engine.step_s(32, 16_000)
        assert small.engine.prefill_s(1000) < gpus * big.engine.prefill_s(1000)
        assert gpus > 1 or small.engine.kv_tokens >= big.engine.kv_tokens


def test_a_step_is_never_faster_than_the_memory(ladder):
    """Two bytes a parameter of the layers bound a step from below; embeddings are at most half of the smallest."""
    for profile in ladder:
        peak = BANDWIDTH[profile.gpu.partition("-")[0].lower()] * profile.n_gpus
        assert profile.engine.step_fixed_s > profile.params_b * 1e9 * 2 * 0.75 / peak


def test_the_largest_answers_better_than_the_smallest(ladder):
    """Neighbours may cross where the published scores do; the ends of a ladder do not."""
    for task in TASKS:
        assert ladder[-1].quality[task] > ladder[0].quality[task]


def test_thinking_pays_for_mathematics_and_code():
    """Where both are published; elsewhere it pays little."""
    eight = load("qwen3-8b-h100")

    assert eight.quality_thinking["math"] > eight.quality["math"] + 0.05
    assert eight.quality_thinking["code"] > eight.quality["code"] + 0.2
    assert eight.quality_thinking["rewrite"] < eight.quality["rewrite"] + 0.05
    assert eight.lengths_thinking["math"].median > 10 * eight.lengths["math"].median


@pytest.mark.parametrize("name", sorted(set(names()) - {"smollm2-135m-cpu"}))
def test_lengths_are_plausible(name):
    """A label is shorter than a text, and nothing usual is beyond a thousand tokens."""
    lengths = load(name).lengths

    assert lengths["classify"].median < lengths["qa"].median < lengths["write"].median
    assert all(5 < each.median < 1000 and 0.3 < each.sigma < 2 for each in lengths.values())


def test_published_steps_are_reproduced():
    """SGLang's own median gaps: Qwen3-8B with four in flight on one H100 (7.04 ms), Qwen2.5-7B with 16 on one L4 (60.1 ms)."""
    assert load("qwen3-8b-h100").engine.step_s(4, 4 * 340) == pytest.approx(7.04e-3, rel=0.02)
    assert load("qwen2.5-7b-l4").engine.step_s(16, 16 * 264) == pytest.approx(60.1e-3, rel=0.05)


@pytest.mark.parametrize(("name", "hint"), [("qwen3-8b-h10", "did you mean qwen3-8b-h100? "), ("nope", "")])
def test_an_unknown_name_brings_the_nearest(name, hint):
    """And says where the list is."""
    with pytest.raises(BadProfile) as caught:
        load(name)

    assert str(caught.value) == (
        f"profile {name!r} is not shipped and is not a path to a .toml file; {hint}`bestserve profiles` lists what ships"
    )


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
