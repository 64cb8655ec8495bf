"""Predicted against measured, answer by answer and mix by mix."""

from dataclasses import replace

import pytest

from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.judge import judge
from bestserve.proxy.profiling.script import mixed
from tests.proxy.profiling.world import KNOWN, play, with_constants

MIX = script.closed("mix of four", mixed(30, (16, 1500), (8, 60), 1), 4, 0.05, 1)


def test_the_right_constants_predict_a_quiet_backend_exactly() -> None:
    """No error in first token, time per token or throughput."""
    summary = judge([play(MIX)], KNOWN).summary()

    assert {name: mix.n for name, mix in summary.items()} == {"ttft": 30, "tpot": 30, "throughput": 1}
    assert all(mix.p90 < 1e-3 for mix in summary.values())


def test_of_a_mix_that_was_played_twice_means_are_compared() -> None:
    """A call a pair, of the mean of both times: what one was held up is halved. Another mix of that name is another mix."""
    other = script.closed("mix of four", mixed(30, (16, 1500), (8, 60), 2), 4, 0.05, 2)

    judged = judge([play(MIX), play(MIX, lag=lambda _: 0.5), play(other)], KNOWN)

    assert {name: mix.n for name, mix in judged.summary().items()} == {"ttft": 60, "tpot": 60, "throughput": 2}
    assert judged.ttft[0].measured - judged.ttft[0].predicted == pytest.approx(0.25)
    assert judged.ttft[30].measured == pytest.approx(judged.ttft[30].predicted)


def test_wrong_constants_show_with_their_sign() -> None:
    """Steps believed half as long: answers are predicted too fast, throughput too high."""
    summary = judge([play(MIX)], with_constants(step_fixed_s=0.004, step_per_seq_s=0.0005)).summary()

    assert summary["tpot"].bias < -0.2
    assert summary["tpot"].median == pytest.approx(-summary["tpot"].bias, rel=0.2)
    assert summary["throughput"].bias > 0.1


def test_what_was_fitted_failed_or_was_disturbed_is_not_compared() -> None:
    """Only mixes that went well count."""
    runs = [play(script.prefill(64, 1)), replace(play(MIX), failed="closed"), replace(play(MIX), foreign=2)]

    assert judge(runs, KNOWN).summary() == {}


def test_noise_of_a_tenth_is_predicted_to_a_sixth() -> None:
    """Steps that vary by 10 %: first tokens within 15 % in the median and 30 % for nine of ten."""
    mixes = [
        script.opened("a", mixed(60, (16, 1500), (8, 60), 2), 3.0, 2),
        script.closed("b", mixed(60, (16, 1500), (8, 60), 3), 4, 0.05, 3),
        script.closed("c", mixed(60, (16, 1500), (8, 60), 4), 12, 0.05, 4),
    ]

    summary = judge([play(mix, noise=0.1, seed=i) for i, mix in enumerate(mixes)], KNOWN).summary()

    for name, mix in summary.items():
        assert mix.median < 0.15, name
        assert mix.p90 < 0.30, name
