"""The grid fits the backend and the time."""

from collections import Counter

import pytest

from bestserve.proxy.profiling.plan import ANSWER, HELD_SHARE, MIXES_SHARE, Plan, cost_s
from bestserve.proxy.profiling.replay import replay
from tests.proxy.profiling.world import KNOWN, with_constants

ALL = ("prefill", "decode", "remember")
GPU = with_constants(
    prefill_tokens_per_s=30_000,
    step_fixed_s=0.007,
    step_per_seq_s=1e-5,
    step_per_kv_token_s=6e-8,
    max_running=4096,
    kv_tokens=360_000,
    context=40_960,
)


def test_lengths_double_up_to_what_is_worth_the_time() -> None:
    """A fast backend is asked for 8192 tokens, a slow one for fewer, and never for more than half a context; a word of ours wins."""
    assert Plan(GPU, 600.0).lengths() == [2**k for k in range(4, 14)]
    assert Plan(with_constants(prefill_tokens_per_s=100, context=40_960), 600.0).lengths()[-1] == 256
    assert Plan(with_constants(context=1_000), 600.0).lengths()[-1] == 256
    assert Plan(with_constants(prefill_tokens_per_s=100), 600.0, longest=1024).lengths()[-1] == 1024


def test_batches_reach_what_may_run_and_no_more_than_256() -> None:
    """1, 4, 16 … and the most."""
    assert Plan(GPU, 600.0).batches() == [1, 4, 16, 64, 256]
    assert Plan(KNOWN, 600.0).batches() == [1, 4, 16]
    assert Plan(with_constants(max_running=24), 600.0).batches() == [1, 4, 16, 24]
    assert Plan(with_constants(max_running=1), 600.0).batches() == [1]


@pytest.mark.parametrize("engine", [KNOWN, GPU, with_constants(kv_tokens=3_000), with_constants(prefill_tokens_per_s=200)])
def test_no_script_takes_too_much_of_memory_or_time(engine) -> None:
    """Decodes hold at most their share of the memory; nothing but the smallest grid takes more than a tenth of the time."""
    plan = Plan(engine, 600.0)

    for one in plan.decodes():
        assert len(one.calls) * (one.calls[0].prompt + ANSWER) <= HELD_SHARE * engine.kv_tokens
        assert cost_s(one, engine) <= 60.0
    assert len({len(one.calls) for one in plan.decodes()}) >= 3


def test_a_round_asks_everything_once_in_an_order_of_its_own() -> None:
    """Each length alone and beside a decoder, each company once; another round mixes them anew."""
    plan = Plan(KNOWN, 600.0)

    first, second = plan.round(ALL, 1), plan.round(ALL, 2)

    alone = Counter(one.calls[0].prompt for one in first if one.kind == "prefill")
    beside = Counter(call.prompt for one in first if one.kind == "stall" for call in one.calls[1:])
    assert set(alone) == set(beside) == set(plan.lengths())
    assert sorted(one.key for one in first if one.kind == "decode") == sorted(one.key for one in plan.decodes())
    assert [one.key for one in first] != [one.key for one in second]
    assert {one.kind for one in plan.round(("remember",), 1)} == {"remember"}


def test_mixes_are_unseen_and_take_their_part_of_the_time() -> None:
    """Four companies, whose lengths are none of the grid's, in a quarter of ten minutes."""
    plan = Plan(KNOWN, 600.0)

    mixes = plan.mixes(seed=1, left_s=150.0)

    assert len({mix.key for mix in mixes}) == len(mixes) == 4
    assert 0.3 * 600 * MIXES_SHARE < sum(cost_s(mix, KNOWN) for mix in mixes) <= 600 * MIXES_SHARE * 1.05
    prompts = [call.prompt for mix in mixes for call in mix.calls]
    assert sum(prompt in plan.lengths() for prompt in prompts) < 0.1 * len(prompts)


def test_a_short_time_has_fewer_mixes_and_at_least_one() -> None:
    """What is there already is not made again."""
    plan = Plan(KNOWN, 600.0)

    assert len(plan.mixes(seed=1, left_s=0.1)) == 1
    assert len(plan.mixes(seed=1, left_s=6.0)) in (2, 3)
    assert [mix.key for mix in plan.mixes(1, 150.0, there=["mix of four clients", "mix nearly full", "mix half full"])] == [
        "mix of twelve clients"
    ]


def test_the_half_full_mix_leaves_the_backend_half_idle() -> None:
    """Its calls take about half of the time between the first arrival and the last."""
    _, nearly, _, half = Plan(KNOWN, 600.0).mixes(seed=3, left_s=150.0)

    waits = [sum(t.first - t.sent for t in replay(mix.calls, KNOWN)) / len(mix.calls) for mix in (half, nearly)]

    assert waits[0] < waits[1]
