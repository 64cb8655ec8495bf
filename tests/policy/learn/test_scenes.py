"""Scenes to learn from: fleets with doubts, held to what their requests are held to."""

import numpy as np
import pytest

from bestserve.policy.facts import SLO
from bestserve.policy.learn.scenes import scene
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places
from tests.policy.facts_by_hand import BUDGETS, LADDER

OWN = SLO(ttft_s=0.7, tpot_s=0.05, e2e_s=None, hard=False)


def deadlines(slo: SLO | None) -> set[tuple[float, float]]:
    dice = np.random.default_rng(1)
    scenes = [scene(dice, Places(LADDER, BUDGETS), Mind.of("least-loaded"), 200, slo=slo)[0] for _ in range(6)]
    return {pair for each in scenes for pair in zip(each.trace.ttft_s.tolist(), each.trace.tpot_s.tolist(), strict=True)}


@pytest.mark.timeout(300)
def test_a_fleet_s_own_deadline_is_what_it_is_trained_for():
    """And where there is none, all sorts."""
    assert deadlines(OWN) == {(0.7, 0.05)}
    assert len(deadlines(None)) > 2
