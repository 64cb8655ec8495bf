"""Limits, and where each is from."""

from dataclasses import replace

from bestserve.proxy.dialects.sglang import Limits
from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.limits import ASSUMED, engine_of, numbers
from tests.proxy.profiling.world import KNOWN, play

SAID = Limits(max_running=16, kv_tokens=20_000, context=8_192, prefill_batch_tokens=4_096)


def test_what_the_backend_says_is_taken() -> None:
    """All four, as measured; a queue without limit is left out."""
    found = numbers(SAID, {}, [])

    assert {name: value for name, (value, _) in found.items()} == {
        "max_running": 16,
        "kv_tokens": 20_000,
        "context": 8_192,
        "prefill_batch_tokens": 4_096,
    }
    assert {source.how for _, source in found.values()} == {"measured"}
    assert numbers(replace(SAID, max_queued=32), {}, [])["max_queued"][0] == 32


def test_what_is_told_wins_and_what_nobody_says_is_marked() -> None:
    """Either way it is assumed, and says by whom or what to do about it."""
    found = numbers(Limits(max_running=16), {"context": 2_000}, [])

    assert found["context"][0] == 2_000
    assert found["context"][1].source == "told with --context"
    assert found["kv_tokens"][0] == ASSUMED["kv_tokens"]
    assert found["kv_tokens"][1].source == "the backend does not say it; tell --kv-tokens"
    assert found["kv_tokens"][1].how == "assumed"


def test_how_many_run_together_is_seen_where_nobody_says() -> None:
    """Twelve asked and eight together: eight may run. Eight asked and together: at least eight may."""
    few = replace(KNOWN, max_running=8)

    found, source = numbers(Limits(), {}, [play(script.decode(12, 32, 34), few)])["max_running"]
    assert (found, source.how) == (8, "measured")
    found, source = numbers(Limits(), {}, [play(script.decode(8, 32, 34), few)])["max_running"]
    assert (found, source.how) == (8, "assumed")


def test_an_engine_can_be_made_of_what_is_known() -> None:
    """What nobody knows yet is a round figure; limits are whole."""
    engine = engine_of(
        {"max_running": 16.0, "kv_tokens": 20_000.0, "context": 8_192.0, "prefill_batch_tokens": 4_096.0, "overhead_s": 0.01}
    )

    assert engine.max_running == 16
    assert isinstance(engine.kv_tokens, int)
    assert engine.overhead_s == 0.01
    assert engine.step_fixed_s > 0
