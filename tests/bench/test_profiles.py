"""What derives the profiles: the formula, its fit, and that the files which ship are what it says. Without the published data."""

import json
import math
import sys
from pathlib import Path

import pytest

from bestserve.profiles import load, names

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "bench" / "profiles"
sys.path.insert(0, str(SCRIPTS))

import constants  # noqa: E402
import derive  # noqa: E402
import leave_one_out  # noqa: E402
import library  # noqa: E402
import replay  # noqa: E402
from measured import Row  # noqa: E402
from roofline import PRIORS, Roofline, fit  # noqa: E402
from shapes import A100, H100, H200, L4, MODELS  # noqa: E402

sys.path.remove(str(SCRIPTS))

FOUND = json.loads((SCRIPTS / "fitted.json").read_text(encoding="utf-8"))
EIGHT = MODELS["Qwen/Qwen3-8B"]
SEVENTY = MODELS["meta-llama/Llama-3.1-70B-Instruct"]
TRUE = {name: median for name, (median, _) in PRIORS.items()} | {"weights": 0.7, "gap": 40e-6, "weights h100": 1.2, "q": 2.0}


def rows(constants, *models):
    """What a world with these constants would have published."""
    blank = [
        Row(kind, model, gpu, 1, "none" if kind == "operators" else "sglang", n, context, 2048 * (kind == "run"), 1.0, "a world")
        for model in models
        for gpu in ("a100", "h100")
        for kind, n, context in (
            *(("operators", n, 0) for n in (1, 64, 1024)),
            *(("step", n, 500.0) for n in (1, 32)),
            ("prefill", 1, 2000.0),
            ("run", 1, 6144.0),
        )
    ]
    world = Roofline(constants)
    return [Row(r.kind, r.model, r.gpu, 1, r.engine, r.n, r.context, r.answer, world.seconds(r), r.source) for r in blank]


def test_what_ships_is_what_the_fit_says():
    """Each file that names the script has the engine that the script derives from the committed fit, and none is missing."""
    written = {name for name in names() if "bench/profiles/derive.py" in (ROOT / "profiles" / f"{name}.toml").read_text(encoding="utf-8")}
    derived = {believed.name: believed for believed in derive.library(FOUND)}

    assert written <= set(derived) <= set(names())
    for name in written:
        text = (ROOT / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
        assert "\n".join(library.engine_lines(derived[name])) in text
        assert "\n".join(library.head(derived[name])) in text


def test_no_profile_of_the_ladders_lacks_its_model():
    """Model, GPU and count are those of the name."""
    for believed in derive.library(FOUND):
        profile = load(believed.name)
        assert (profile.model, profile.gpu, profile.n_gpus) == (believed.model.hub, believed.gpu.label, believed.n_gpus)


def test_the_fit_finds_what_made_the_rows():
    """Rows from known constants are predicted within 3 %, those it has seen and those of a model it has not."""
    seen = rows(TRUE, "Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-32B", "Qwen/Qwen2.5-7B-Instruct")
    unseen = rows(TRUE, "Qwen/Qwen3-8B")

    roofline = Roofline(fit(seen))

    for row in (*seen, *unseen):
        assert roofline.seconds(row) == pytest.approx(row.seconds, rel=0.03)


def test_one_wild_row_does_not_move_the_fit():
    """A card that is not what its page says costs the others less than a tenth."""
    seen = rows(TRUE, "Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-32B")
    wild = Row("step", "Qwen/Qwen3-8B", "h100", 1, "sglang", 1, 500.0, 0, 0.05, "a page")

    roofline = Roofline(fit([*seen, wild]))

    assert all(abs(roofline.seconds(row) / row.seconds - 1) < 0.1 for row in seen)


def test_what_is_left_out_is_predicted_from_the_rest():
    """Each (model, GPU) once, with an error for each of its rows."""
    seen = rows(TRUE, "Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-32B")

    left = leave_one_out.leave_models(seen)

    assert len(left) == 6
    assert sum(len(errors) for each in left for errors in each.errors.values()) == len(seen)
    assert all(each.median("step") < 0.05 for each in left)


def test_the_leave_one_out_target_was_met_when_the_fit_was_made():
    """Where a GPU was measured, the error of a step left out is at most a quarter; the median is in docs/profiles.md."""
    assert all(FOUND["step_error"][gpu] <= 0.25 for gpu in ("a100", "h100", "l4"))


@pytest.mark.parametrize("gpu", [A100, H100, H200, L4], ids=lambda gpu: gpu.name)
def test_the_lines_are_near_the_curves(gpu):
    """A profile's straight lines miss the formula by at most a tenth, up to the sequences it allows."""
    roofline = Roofline(FOUND["constants"])
    engine = constants.engine_of(roofline, EIGHT, gpu, 1)

    for n in (1, 4, 16, gpu.max_running // 2, gpu.max_running):
        assert engine.step_s(n, 500 * n) == pytest.approx(roofline.step(EIGHT, gpu, 1, "sglang", n, 500 * n), rel=0.1)
    for tokens in (256, 1024, 4096):
        prompts = tokens / min(tokens, 1024)
        assert engine.prefill_s(tokens) == pytest.approx(roofline.prefill(EIGHT, gpu, 1, "sglang", prompts, tokens / prompts), rel=0.1)


def test_four_gpus_are_faster_than_two_and_not_twice_as_fast():
    """They read half as much each, and have to meet."""
    roofline = Roofline(FOUND["constants"])
    two, four = (roofline.step(SEVENTY, H100, n, "sglang", 8, 4000) for n in (2, 4))

    assert two / 2 < four < two


def test_a_model_that_leaves_no_room_has_no_engine():
    """70 billion parameters do not fit one card; 8 billion leave an L4 some 20,000 tokens."""
    roofline = Roofline(FOUND["constants"])

    assert constants.engine_of(roofline, SEVENTY, H100, 1) is None
    assert 15_000 < constants.engine_of(roofline, EIGHT, L4, 1).kv_tokens < 30_000


def test_a_line_goes_through_points_that_lie_on_one():
    """And never begins below 0."""
    assert constants.line([1, 2, 8], [3.0, 5.0, 17.0]) == pytest.approx((1.0, 2.0))
    fixed, each = constants.line([1, 2, 4], [1.0, 4.0, 16.0])
    assert fixed == 0
    assert each == pytest.approx(2.0)


def test_invented_lengths_have_the_published_mean():
    """As many as asked, none beyond the loader's limit."""
    found = replay.lengths(220, 1000, seed=1)

    assert sum(found) / 1000 == pytest.approx(220, rel=0.01)
    assert max(found) <= 1024


def test_a_replay_counts_every_token():
    """One at a time: the throughput is the engine's own, and the gap between tokens is its step."""
    engine = constants.engine_of(Roofline(FOUND["constants"]), EIGHT, H100, 1)

    seen = replay.replay(engine, [100] * 5, [50] * 5, in_flight=1)

    alone = engine.prefill_s(100) + 49 * engine.step_s(1, 125)
    assert seen["out tok/s"] == pytest.approx(50 / alone, rel=0.01)
    assert seen["ITL p50 ms"] == pytest.approx(1e3 * engine.step_s(1, 125), rel=0.01)
    assert seen["TTFT p50 ms"] == pytest.approx(1e3 * engine.prefill_s(100))
    assert math.isfinite(seen["TPOT p50 ms"])
