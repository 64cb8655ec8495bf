"""The GPU script's parts that need no GPU: its grid, its CSV, the files it writes for SGLang, and what it makes of rows."""

import json
import sys
from pathlib import Path

import pytest
import torch

from bestserve.profiles import load

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path[:0] = [str(BENCH), str(BENCH / "profiles")]

import gpu_profile  # noqa: E402
import gpu_sglang  # noqa: E402
import gpu_torch  # noqa: E402
from gpu_profile import BATCHES, CONTEXTS, Row, add, fitted, grid, read, wanted  # noqa: E402

from shapes import MODELS, Model  # noqa: E402

sys.path.remove(str(BENCH))
sys.path.remove(str(BENCH / "profiles"))

SMALL, LARGE = MODELS["Qwen/Qwen3-0.6B"], MODELS["Qwen/Qwen3-32B"]
GIB = 2**30


def test_the_grid_is_what_fits_beside_the_weights() -> None:
    """All of it for 0.6B on 80 GiB; of 32B what 9 GiB hold; nothing of it on 24 GiB."""
    steps, prefills = grid(SMALL, 80 * GIB)
    assert len(steps) > 0.8 * len(BATCHES) * len(CONTEXTS)
    assert prefills == list(CONTEXTS)

    steps, _ = grid(LARGE, 80 * GIB)
    assert steps
    assert max(n * context for n, context in steps) * LARGE.kv_bytes < 80 * GIB - LARGE.weight_bytes
    assert grid(LARGE, 24 * GIB) == ([], [])


def test_sizes_are_those_of_the_shapes_and_another_is_refused() -> None:
    """By the size in the model's name."""
    assert [model.hub for model in wanted("0.6B,32B")] == ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-32B"]
    with pytest.raises(SystemExit, match=r"7B is none of 0\.6B"):
        wanted("0.6B,7B")


def world(model: str) -> list[Row]:
    """What a GPU with these constants would have shown."""
    steps = [
        Row("torch", "H100", model, "step", n, n * context, 0.007 + n * 1e-5 + n * context * 6e-8)
        for n in (1, 8, 64, 256)
        for context in (128, 1024)
    ]
    return steps + [Row("torch", "H100", model, "prefill", 1, n, 0.004 + n / 30_000) for n in CONTEXTS for _ in range(2)]


def test_rows_come_back_from_the_file_and_later_ones_go_below(tmp_path) -> None:
    """One header, whatever number of times it is added to."""
    rows, path = world("a"), tmp_path / "steps.csv"
    add(path, rows[:5])
    add(path, rows[5:])

    back = read(path)

    assert path.read_text().count("seconds") == 1
    assert [(row.kind, row.n, row.context) for row in back] == [(row.kind, row.n, row.context) for row in rows]
    assert [row.seconds for row in back] == pytest.approx([row.seconds for row in rows], abs=1e-7)


def test_rows_of_a_world_give_its_constants_and_a_profile(tmp_path) -> None:
    """Steps and prefills of one model, whatever others are in the file; limits and quality are the base's."""
    path = tmp_path / "mine.toml"
    said = fitted([*world("Qwen/Qwen3-8B"), *world("other")[:3]], "Qwen/Qwen3-8B", "qwen3-8b-h100", path)

    mine, base = load(path), load("qwen3-8b-h100")
    assert mine.engine.step_fixed_s == pytest.approx(0.007, rel=0.01)
    assert mine.engine.step_per_kv_token_s == pytest.approx(6e-8, rel=0.01)
    assert mine.engine.prefill_tokens_per_s == pytest.approx(30_000, rel=0.01)
    assert (mine.engine.kv_tokens, mine.quality, mine.gpu) == (base.engine.kv_tokens, base.quality, "H100")
    assert "prefill_tokens_per_s = 3e+04" in said
    assert "overhead_s" not in said
    with pytest.raises(SystemExit, match="'none' has no rows; there are other"):
        fitted(world("other"), "none", None, None)


def test_what_is_written_for_sglang_is_the_published_shape(tmp_path) -> None:
    """A Qwen3 of 8B, and a tokenizer with a word for each number."""
    gpu_sglang.shaped(MODELS["Qwen/Qwen3-8B"], tmp_path)

    config = json.loads((tmp_path / "config.json").read_text())
    words = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (config["architectures"], config["hidden_size"], config["num_hidden_layers"]) == (["Qwen3ForCausalLM"], 4096, 36)
    assert (config["num_key_value_heads"], config["head_dim"], config["tie_word_embeddings"]) == (8, 128, False)
    assert len(words["model"]["vocab"]) == config["vocab_size"] == 151_936


def test_a_small_shape_is_timed_on_a_cpu() -> None:
    """Every point of the grid ten times, each as a row that says how it was taken."""
    tiny = Model("", "tiny", "tiny", 0.001, 2, 64, 4, 2, 16, 128, 512, tied=True, context=256)

    rows = list(gpu_profile.with_torch(tiny))

    steps, prefills = grid(tiny, gpu_torch.free_bytes())
    assert {(row.kind, row.n, row.context) for row in rows} == {("step", n, n * c) for n, c in steps} | {
        ("prefill", 1, t) for t in prefills
    }
    assert len(rows) == 10 * (len(steps) + len(prefills))
    assert all(row.seconds > 0 for row in rows)
    assert rows[0].way.startswith("torch")
    assert "random weights" in rows[0].way


def test_heads_that_share_a_key_head_read_it_once_and_see_the_same() -> None:
    """Attention with the queries in a row is attention with the keys repeated."""
    q, keys, values = torch.randn(3, 4, 1, 8), torch.randn(3, 2, 17, 8), torch.randn(3, 2, 17, 8)

    plain = torch.nn.functional.scaled_dot_product_attention(q, keys, values, enable_gqa=True)

    assert torch.allclose(gpu_torch.one_query(q, keys, values), plain, atol=1e-6)


def test_it_says_that_it_has_never_run_on_a_gpu() -> None:
    """Until it has."""
    assert "has never run on a GPU" in (gpu_profile.__doc__ or "")
