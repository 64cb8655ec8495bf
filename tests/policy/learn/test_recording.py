"""What a simulation writes is what a proxy writes: Records that encode again to what they were decided on, and say what came of it."""

import numpy as np
import pytest

from bestserve.policy.encode import observe
from bestserve.policy.facts import Budget, Ending
from bestserve.policy.learn.recording import recorded, records, said_of
from bestserve.policy.scene import Places, mind_of
from bestserve.policy.simulate import DONE, SHED, Setting
from bestserve.policy.workload import Demand, draw_trace, poisson
from tests.policy.facts_by_hand import backend
from tests.policy.learn.log_by_simulation import lines, played

pytestmark = pytest.mark.timeout(600)


def test_every_record_encodes_again_to_its_digest():
    """From the facts on its line."""
    assert all(observe(line.seen).digest() == line.decision["digest"] for line in lines())


def test_what_came_of_requests_is_told():
    """As many of each ending, and the same times, as the simulation had."""
    results, told = played().results, {line.request_id: line for line in lines()}
    assert len(told) == len(results.ending)
    assert sum(line.outcome.ending is Ending.SHED for line in told.values()) == int((results.ending == SHED).sum())
    done = np.flatnonzero(results.ending == DONE)
    for i in done[:50].tolist():
        outcome = told[f"s{i}"].outcome
        assert (outcome.total_s, outcome.ttft_s, outcome.completion_tokens) == (results.total_s[i], results.ttft_s[i], results.tokens[i])


def test_who_has_refused_was_not_to_be_had_when_somebody_else_was_asked():
    """Long prompts are refused by a small memory: in the decision that follows it is masked, and who is not has at least the floor."""
    places = Places((backend("tiny", kv_tokens=2000), backend("roomy", slower=2.0)), (Budget(),))
    trace = draw_trace(np.random.default_rng(0), poisson(5.0), 20.0, Demand())
    of = recorded(places, trace, mind_of("random", places), setting=Setting(explore=0.1))
    made = [record.decision for record in records(of, wall=0.0, policy="random")]
    assert any(not one.mask[0] for one in made)
    for one in made:
        assert all(p == 0.0 if not may else p >= one.floor - 1e-12 for p, may in zip(one.probabilities[:-1], one.mask[:-1], strict=True))


def test_only_what_a_cap_ended_is_cut():
    """An answer that was asked to be short and ended is none."""
    for line in lines():
        action, outcome = line.decision["action"], line.outcome
        if outcome.cut:
            assert outcome.finish_reason == "length"
            assert outcome.completion_tokens == action["budget"]


def test_scores_are_right_as_often_as_answers_are_good():
    """Of a share of the answers."""
    results = played().results
    said = said_of(played(), np.random.default_rng(0), 0.5)
    done = int((results.ending == DONE).sum())
    assert 0.45 * done < len(said) < 0.55 * done
    assert abs(np.mean(list(said.values())) - np.mean(results.quality[list(said)])) < 0.06
