"""Lengths of one's own answers, from the replay log into a copy of a profile."""

import math
from dataclasses import replace

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from bestserve import profiles
from bestserve.policy import task
from bestserve.policy.decide import actions_of, decide
from bestserve.policy.facts import Budget, Ending
from bestserve.policy.fleet import Fleet
from bestserve.policy.record import Record
from bestserve.proxy.cli import main
from bestserve.proxy.entries import record_line
from bestserve.proxy.quality.merge import PRIOR
from tests.policy.facts_by_hand import LADDER, ask, chooser, outcome

from .log_by_hand import AROUND

BASE = "qwen3-8b-h100"
BUDGETS = (Budget(None), Budget(384, "Answer in at most 200 words."))
BACKENDS = tuple(replace(b, profile=replace(b.profile, name=BASE)) if b.name == "large" else b for b in LADDER)
WRITE = ask(task=task.prior("write"))


def answer(tokens, *, asked=WRITE, backend="large", budget=0, **changes):
    """A Record of an answer so long."""
    actions = actions_of(LADDER, BUDGETS)
    chosen = next(i for i, a in enumerate(actions) if a.backend == backend and a.budget == BUDGETS[budget])
    made, _ = decide(asked, Fleet(BACKENDS).view(1.0), replace(chooser("random"), actions=actions, budgets=BUDGETS), draw=0.0, id="d")
    made = replace(made, index=chosen, action=actions[chosen])
    came = replace(outcome(), **{"ending": Ending.DONE, "completion_tokens": tokens, "finish_reason": "stop", **changes})
    return Record("r", 0, 1_795_000_000.0, "live", asked, Fleet(BACKENDS).view(1.0), made, came)


def refined(tmp_path, records, *words, code=0):
    """The new profile, and what was said."""
    log = tmp_path / "log"
    log.mkdir()
    lines = [record_line("h-1-0000000a", n, record, AROUND) for n, record in enumerate(records, 1)]
    (log / "20261122T080000000Z-h-1-0000000a-000001.open.jsonl").write_bytes(b"".join(lines))
    said = CliRunner().invoke(main, ["profiles", "refine", str(log), "--base", BASE, "--out", str(tmp_path / "mine.toml"), *words])
    assert said.exit_code == code, said.output
    return (profiles.load(tmp_path / "mine.toml") if code == 0 else None), said.output


def test_lengths_move_toward_what_was_seen(tmp_path):
    """As far as the answers outweigh the profile; what was not seen stays, and the number says what went into it."""
    lengths = np.exp(np.random.default_rng(3).normal(math.log(700), 0.5, 400)).astype(int).tolist()

    mine, _ = refined(tmp_path, [answer(n) for n in lengths])

    before, log, weight = profiles.load(BASE).lengths, np.log(lengths).mean(), PRIOR["interpolated"]
    expected = math.exp((weight * math.log(before["write"].median) + 400 * log) / (weight + 400))
    assert mine.lengths["write"].median == pytest.approx(expected, rel=1e-3)
    assert mine.lengths["write"].sigma < before["write"].sigma
    assert mine.lengths["code"] == before["code"]
    assert mine.sources["lengths.write"].source.startswith("bestserve profiles refine: median")
    assert mine.sources["lengths.write"].how == "measured"


def test_what_a_cap_broke_off_counts_as_longer(tmp_path):
    """Half of the answers of a median of 700 are cut at 500 tokens: leaving them out would say some 330."""
    lengths = np.exp(np.random.default_rng(5).normal(math.log(700), 0.6, 600))
    records = [answer(min(int(n), 500), finish_reason="length" if n > 500 else "stop") for n in lengths]

    mine, said = refined(tmp_path, records, "--prior", "0", "--json")

    assert mine.lengths["write"].median == pytest.approx(700, rel=0.08)
    assert orjson.loads(said)["numbers"]["lengths.write"]["after"] == pytest.approx(mine.lengths["write"].median, rel=1e-3)


def test_what_says_nothing_of_the_model_does_not_count(tmp_path):
    """Answers that were asked to be short, that broke, of no clear task; other backends' are another matter altogether."""
    records = [answer(300) for _ in range(3)] + [answer(9_000, backend="small")] * 5
    records += [answer(20, budget=1), answer(20, ending=Ending.BROKE), answer(20, asked=ask())]

    mine, said = refined(tmp_path, records, "--prior", "0", "--json")

    assert mine.lengths["write"].median == pytest.approx(300, rel=1e-3)
    assert orjson.loads(said)["left_out"] == {"asked to be short": 1, "without an end": 1, "of no clear task": 1}


def test_the_choices_of_a_request_share_its_tokens(tmp_path):
    """Of n answers each is as long as their mean."""
    mine, _ = refined(tmp_path, [answer(900, asked=replace(WRITE, n=3))] * 4, "--prior", "0")

    assert mine.lengths["write"].median == pytest.approx(300, rel=1e-3)


def test_a_backend_may_be_named(tmp_path):
    """Whatever profile it had."""
    mine, said = refined(tmp_path, [answer(50, backend="small")] * 5, "--backend", "small", "--prior", "0")

    assert mine.lengths["write"].median == pytest.approx(50, rel=1e-3)
    assert "write" in said


def test_a_log_that_says_nothing_is_an_error(tmp_path):
    """It says what there is instead; no file is written."""
    _, said = refined(tmp_path, [answer(50, backend="small")] * 5 + [answer(20, ending=Ending.BROKE)], code=1)

    assert "1 without an end" in said
    assert "5 small (small)" in said
    assert not (tmp_path / "mine.toml").exists()


def test_refining_what_was_refined_is_remarked_on(tmp_path):
    """The same answers may count twice."""
    refined(tmp_path, [answer(300)] * 4)

    said = CliRunner().invoke(
        main,
        [
            "profiles",
            "refine",
            str(tmp_path / "log"),
            "--base",
            str(tmp_path / "mine.toml"),
            "--backend",
            "large",
            "--out",
            str(tmp_path / "again.toml"),
        ],
    )

    assert "lengths.write was measured before" in said.output


@pytest.mark.parametrize(
    ("words", "why"),
    [(["--base", "qwen3-8b-h10", "--out", "x.toml"], "qwen3-8b-h100"), (["--base", BASE, "--out", "x.yaml"], "must be a .toml file")],
)
def test_what_cannot_be_done_is_said(tmp_path, words, why):
    """A profile that is none, with the nearest; a file that would be no profile."""
    said = CliRunner().invoke(main, ["profiles", "refine", str(tmp_path), *words])

    assert said.exit_code != 0
    assert why in said.output
