"""From a log to a challenger and its verdict, on a small log. Whether it gets better is a matter of measuring (bench/retrain.py)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from bestserve.policy.calibration import calibrated
from bestserve.policy.checkpoint import from_bytes, to_bytes
from bestserve.policy.encode import observe
from bestserve.policy.facts import TASKS
from bestserve.policy.learn.again import Belief, chances, seen_again
from bestserve.policy.learn.earned import earned
from bestserve.policy.learn.logged import some
from bestserve.policy.learn.replayed import begun, trace_of
from bestserve.policy.learn.retrain import Answer, Incumbent, Question, TooLittle, retrain
from bestserve.policy.learn.search import PRIOR
from bestserve.policy.policies import Mind
from bestserve.policy.reward import reward
from bestserve.policy.scene import mind_of
from tests.policy.learn.log_by_simulation import PLACES, SMALL, WRONG, lines, logged, played, raw

pytestmark = pytest.mark.timeout(600)


def question() -> Question:
    columns, names = logged()
    incumbent = Incumbent("bid-price", mind_of("bid-price", PLACES), PRIOR)
    return Question(
        columns, names, raw(), np.arange(len(columns.wall)), np.ones(len(columns.wall)), PLACES.backends, PLACES.budgets, incumbent, 0.2
    )


def answered(of: Question) -> Answer:
    with ThreadPoolExecutor(1) as pool:
        return retrain(of, SMALL, pool, lambda *_: None)


@pytest.fixture(scope="module")
def answer() -> Answer:
    return answered(question())


def test_what_was_wrong_is_believed_no_more(answer):
    """The fleet by the checkpoint's calibration is nearly the true one."""
    believed = {b.name: b for b in calibrated(PLACES.backends, from_bytes(to_bytes(answer.checkpoint)).calibration)}
    true = dict(zip((b.name for b in PLACES.backends), PLACES.true, strict=True))[WRONG]
    wrong = next(b for b in PLACES.backends if b.name == WRONG).profile
    here = believed[WRONG].profile
    assert (
        abs(here.engine.step_fixed_s / true.engine.step_fixed_s - 1) < 0.1 < abs(wrong.engine.step_fixed_s / true.engine.step_fixed_s - 1)
    )
    assert abs(np.mean([here.quality[task] - true.quality[task] for task in TASKS])) < 0.1
    assert {row.backend for row in answer.rows} == set(believed)


def test_the_verdict_rests_on_the_incumbent_as_the_log_has_it(answer):
    """The calibrated simulator gives what the log gave."""
    assert not answer.judgement.duel.abstains
    assert answer.judgement.duel.reward == pytest.approx(answer.judgement.duel.log_reward, rel=0.05)
    assert {test.name for test in answer.verdict.tests} >= {"doubly robust, one step", "fitted Q", "duel in the calibrated simulator"}


def test_a_jam_that_no_calibrated_fleet_repeats_leaves_the_duel_without_a_say(answer):
    """One request in eight of those that are judged by waited ten seconds more, for nothing that is believed of any backend."""
    log = question().log
    more = np.zeros(len(log.wall))
    more[np.argsort(log.wall - log.took)[-150:]] = 10.0
    jammed = log._replace(ttft=log.ttft + more, took=log.took + more, wall=log.wall + more)
    quiet, duel = answer.judgement.duel, answered(replace(question(), log=jammed)).judgement.duel
    assert duel.log_reward < 0.9 * quiet.log_reward
    assert duel.reward == pytest.approx(quiet.reward, rel=0.03)
    assert duel.abstains


def test_a_second_retrain_goes_on_where_the_first_one_stopped(answer):
    """At its network and its calibration; where the log says the same, the same is believed."""
    made = answer.checkpoint
    second = Incumbent(made.name, Mind.of("actor", made.parameters, made.network), made.parameters, made.network, made.calibration)
    again = answered(replace(question(), incumbent=second))
    first, then = (each.checkpoint.calibration[WRONG] for each in (answer, again))
    assert then.engine["step_fixed_s"] == pytest.approx(first.engine["step_fixed_s"], rel=0.03)
    assert np.mean([then.longer[task] - first.longer[task] for task in then.longer]) == pytest.approx(0.0, abs=0.05)
    assert again.judgement.duel.abstains  # this incumbent has not decided anything in the log


def test_too_small_a_log_teaches_nothing():
    """It says how much is needed."""
    of = question()
    with pytest.raises(TooLittle, match="100 attempts are too few: at least 500"):
        answered(replace(of, log=some(of.log, slice(0, 100)), weight=of.weight[:100]))


def test_a_log_of_another_fleet_is_not_judged_by():
    """Its decisions were among other actions."""
    with pytest.raises(TooLittle, match="0 are of the fleet"):
        answered(replace(question(), backends=PLACES.backends[:2]))


def test_columns_earn_what_records_do():
    """`reward.reward`, of each line."""
    columns, names = logged()
    found = earned(columns, names, columns.task, PLACES.backends)
    profiles = {backend.name: backend.profile for backend in PLACES.backends}
    for i in range(0, len(lines()), 53):
        line = lines()[i]
        action = line.decision["action"]
        profile = None if action is None else profiles[action["backend"]]
        assert found[i] == pytest.approx(reward(line.outcome, line.ask, profile, told=bool(columns.told[i])), rel=1e-5)


def test_an_answer_of_which_nothing_was_counted_earns_a_number():
    """Neither a first token seen nor tokens counted, and no deadline of a token: inf times 0 is nobody's lateness."""
    columns, names = logged()
    n = len(columns.wall)
    unseen = columns._replace(ttft=np.full(n, np.nan), tokens=np.full(n, np.nan), tpot_slo=np.full(n, np.inf))
    assert np.isfinite(earned(unseen, names, columns.task, PLACES.backends)).all()


def test_the_same_belief_sees_the_same_and_decides_the_same():
    """To the probability, of the policy that decided."""
    belief, mind = Belief.of(PLACES.backends), mind_of("bid-price", PLACES)
    for one, line in zip(raw()[:50], lines(), strict=False):
        seen = seen_again(line, belief)
        assert observe(seen).features == pytest.approx(observe(line.seen).features, rel=1e-9)
        said = chances([one], belief, mind, len(line.decision["mask"]), 0.2)
        assert said[0] == pytest.approx(np.array(line.decision["probabilities"]), abs=1e-6)


def test_a_stretch_is_played_again_as_it_was():
    """The real arrivals, and lengths where they are known."""
    columns, _ = logged()
    requests = some(columns, begun(columns))
    trace = trace_of(requests, requests.task, {}, np.random.default_rng(0))
    assert trace.at == pytest.approx(played().scene.trace.at - played().scene.trace.at[0], abs=1e-6)
    whole = requests.stopped & ~requests.told & (requests.backend >= 0)
    assert (trace.tokens[whole] == played().scene.trace.tokens[whole]).mean() > 0.99
    cut = requests.cut
    assert (trace.tokens[cut] >= requests.tokens[cut] - 1).all()
