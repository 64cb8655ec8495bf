"""What should have come when is what `policy.engine` says."""

import pytest

from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.replay import replay
from bestserve.proxy.profiling.script import mixed
from tests.proxy.profiling.world import KNOWN, play


def test_a_lone_prompt_takes_overhead_prefill_and_steps() -> None:
    """400 tokens: 15 ms beside the engine, 20 + 50 ms of prefill, and two steps of 11 ms and some for the context."""
    (times,) = replay(script.prefill(400, 1).calls, KNOWN)

    assert times.sent == 0
    assert times.first == pytest.approx(0.015 + 0.02 + 0.05)
    assert times.last == pytest.approx(times.first + 2 * 0.011 + (401 + 402) * 2e-6)


def test_a_call_is_sent_when_what_it_waits_for_is_there() -> None:
    """At the end of the one before, or at the first token of the decoder and some steps later."""
    decoder, first, second = replay(script.stall((64, 32), 0.01, seed=1).calls, KNOWN)
    delays = [call.delay_s for call in script.stall((64, 32), 0.01, seed=1).calls]

    assert first.sent == pytest.approx(decoder.first + delays[1])
    assert second.sent == pytest.approx(first.last + delays[2])


@pytest.mark.parametrize("seed", range(3))
def test_jumping_over_steps_gives_the_times_of_single_steps(seed: int) -> None:
    """A mix replayed in jumps and played step by step, without noise, is the same to a microsecond."""
    mix = script.closed("mix", mixed(40, (16, 1500), (4, 60), seed), 12, 0.01, seed)

    times, run = replay(mix.calls, KNOWN), play(mix)

    assert [t.first for t in times] == pytest.approx([s.first for s in run.streams], abs=1e-6)
    assert [t.last for t in times] == pytest.approx([s.last for s in run.streams], abs=1e-6)
