"""What is believed of a request: from its text, or from the prior and counted so; corrected by the answers that were seen."""

import math
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from bestserve.policy import task
from bestserve.policy.classify import Classifier
from bestserve.policy.facts import TASKS, Action, Budget, Ending, Outcome
from bestserve.proxy import weights
from bestserve.proxy.config import ClassifyConfig
from bestserve.proxy.dialects import openai
from bestserve.proxy.reading import Reading
from bestserve.proxy.watch import Watch
from tests.policy.facts_by_hand import ask as ask_by_hand
from tests.policy.facts_by_hand import backend, outcome

ALL = frozenset({"a", "b"})
OUTCOME = outcome()
BRIEF = Budget(128, instruction="Be brief.")


def config(**said: object) -> ClassifyConfig:
    return ClassifyConfig.model_validate(said)


def reading(**said: object) -> Reading:
    here = Reading()
    here.adopt(config(**said), [backend(name) for name in sorted(ALL)])
    return here


def chat(content: object) -> openai.Parsed:
    return openai.parse("chat", orjson.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}))


def answered(
    tokens: int, *, name: str = "write", backend: str = "a", budget: Budget | None = None, finish: str = "stop", n: int = 1
) -> SimpleNamespace:
    """As much of a Record as is looked at."""
    asked = replace(ask_by_hand(), task=task.prior(name), length=task.length(name), n=n)
    outcome = SimpleNamespace(completion_tokens=tokens, finish_reason=finish)
    return SimpleNamespace(ask=asked, outcome=outcome, decision=SimpleNamespace(action=Action(backend, budget or Budget())))


def test_a_text_is_read():
    """Its task, its length, and how it came about."""
    belief = reading().belief(chat("Translate to French: good morning"), None, ALL)

    assert (belief.name, belief.how) == ("translate", "text")
    assert sum(belief.task) == pytest.approx(1.0)


def test_without_a_text_the_prior_answers():
    """And a hint shifts it."""
    here, image = reading(), chat([{"type": "image_url", "image_url": {"url": "data:,"}}])

    assert here.belief(image, None, ALL)[:1] == (task.prior(),)
    assert here.belief(image, None, ALL).how == "prior"
    assert here.belief(image, "math", ALL).name == "math"


def test_switched_off_the_prior_answers():
    """And says so."""
    belief = reading(enabled=False).belief(chat("Translate to French: good morning"), None, ALL)

    assert (belief.task, belief.name, belief.how) == (task.prior(), "unknown", "off")


def test_a_classifier_that_fails_is_replaced_by_the_prior(monkeypatch, caplog):
    """Said in the log, without the text."""

    def fails(self: Classifier, prompt: object, hint: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Classifier, "guess", fails)
    belief = reading().belief(chat("a secret"), "code", ALL)

    assert (belief.name, belief.how) == ("code", "failed")
    assert "prior" in caplog.text
    assert "secret" not in caplog.text


def test_what_is_only_passed_on_is_not_read():
    """It is not counted either."""
    parsed = openai.parse("embeddings", b'{"model": "m", "input": "hello"}')

    assert reading().belief(parsed, None, ALL).how == ""


def test_lengths_follow_the_answers():
    """Of the backend and the task that were seen; twice as long is learnt."""
    here, expected = reading(), task.length("write").median
    for _ in range(300):
        longer = here.note(answered(round(2 * expected)))

    assert longer is not None
    assert (longer.backend, longer.task) == ("a", "write")
    assert longer.log == pytest.approx(math.log(2), rel=0.15)
    assert here.longer() == [longer]


@pytest.mark.parametrize(
    "record",
    [
        answered(0),
        answered(10, finish="length"),
        answered(500, budget=Budget(384, "Be brief.")),
    ],
    ids=["nothing counted", "cut before", "asked to be short"],
)
def test_what_says_nothing_of_lengths_is_not_learnt(record):
    """Nor anything where it is switched off."""
    assert reading().note(record) is None
    assert reading(drift=False).note(answered(5000)) is None


def test_the_spread_follows_too():
    """Of the backends that a model admits."""
    here, prompt = reading(), chat("Write a short story about a lighthouse keeper and a storm")
    before = here.belief(prompt, None, ALL).length
    for _ in range(400):
        here.note(answered(round(before.median)))

    assert here.belief(prompt, None, ALL).length.sigma < before.sigma
    assert here.belief(prompt, None, frozenset({"b"})).length == before


def test_backends_that_are_gone_are_forgotten():
    """At a reload."""
    here = reading()
    here.note(answered(1000, backend="a"))
    here.adopt(config(), [backend("b")])

    assert here.longer() == []


def test_what_a_calibration_says_is_where_learning_begins():
    """Of one answer as long as was predicted little is believed; of many, all."""
    here = reading()
    usual = round(task.length("write").median)
    longer = tuple(0.5 for _ in TASKS)
    here.believe([replace(backend("a"), longer=longer), backend("b")])
    first = here.note(answered(usual, backend="a"))
    for _ in range(1000):
        last = here.note(answered(usual, backend="a"))

    assert first is not None
    assert last is not None
    assert (round(first.log, 2), round(last.log, 2)) == (0.48, 0.02)


def test_several_answers_share_their_tokens():
    """n=4 counts each."""
    here = reading()
    longer = here.note(answered(round(4 * task.length("write").median), n=4))

    assert longer is not None
    assert abs(longer.log) < 0.01


def signal(here: Reading, text: str, outcome: Outcome = OUTCOME, budget: Budget = Budget(), *, looks: bool = True) -> dict | None:  # noqa: B008
    watch = Watch(0.0, usage_asked=True, looks=looks)
    watch.whole(b'{"content": "{}"}')
    return here.signal(chat(text), ask_by_hand(), watch, outcome, budget)


def test_what_may_be_kept_is_no_text():
    """Numbers of known words, in rising order, and what the answer showed."""
    kept = signal(reading(learn=True), "please translate my secret zyzzyva")

    assert kept is not None
    assert kept["rows"] == sorted(kept["rows"])
    assert "zyzzyva" not in weights.shipped().words(kept["rows"])
    assert kept["weights"] == weights.shipped().id
    assert (kept["fence"], kept["json"], kept["tokens"]) == (False, True, OUTCOME.completion_tokens)


def test_where_nothing_can_be_learnt_nothing_is_kept():
    """No text, no answer, nobody who looked; and no length where that was not the answer's own."""
    here = reading(learn=True)

    assert signal(here, "zyzzyva") is None
    assert signal(here, "") is None
    assert signal(here, "translate", replace(OUTCOME, ending=Ending.BROKE)) is None
    assert signal(here, "translate", looks=False) is None
    assert signal(reading(enabled=False, learn=True), "translate") is None
    assert [signal(here, "translate", *how)["tokens"] for how in ((replace(OUTCOME, finish_reason="length"),), (OUTCOME, BRIEF))] == [
        None
    ] * 2


def test_learning_is_switched_on_by_the_operator():
    """And means nothing where nobody reads."""
    assert [reading(**said).learns for said in ({}, {"learn": True}, {"learn": True, "enabled": False})] == [False, True, False]


def test_names_are_what_a_hint_may_say():
    """The built-in tasks, and the classifier's own classes."""
    assert reading().names == TASKS
