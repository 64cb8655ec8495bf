"""The prompts that ship: each check accepts an answer that deserves it, and none gives much for nothing."""

from collections import Counter
from statistics import mean

import pytest

from bestserve.profiles import TASKS
from bestserve.proxy.quality import sandbox
from bestserve.proxy.quality.checks import Checked, runs_code
from bestserve.proxy.quality.prompts import Prompt, shipped

PROMPTS = [p for p in shipped() if sandbox.lack() is None or not runs_code(p.check)]
DODGE = "I'm sorry, I don't know."
TALK = (
    "As an AI language model, I can help you with that. Here is a detailed answer to your question, with several important points to"
    " consider. First, it is important to understand the context of the question and the information that is needed."
)


def right(prompt: Prompt) -> str:
    """The answer that deserves full marks: the row's own, or what the check says."""
    wanted = getattr(prompt.check, "answer", None)
    if prompt.sample is not None:
        return prompt.sample
    if isinstance(wanted, list):
        return " ".join(one if isinstance(one, str) else one[0] for one in wanted)
    return str(wanted)


def scores(task: str, answer: str) -> float:
    return mean(p.check.score(answer) for p in PROMPTS if p.task == task)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.id)
def test_a_right_answer_gets_full_marks(prompt):
    """Else the check asks for something that the prompt does not."""
    assert isinstance(prompt.check, Checked)
    assert prompt.check.score(right(prompt)) == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.id)
def test_no_answer_gets_nothing(prompt):
    """An empty text, and the start of a thought."""
    assert prompt.check.score("") == 0


@pytest.mark.parametrize("task", [task for task in TASKS if task != "code"])
def test_talk_is_worth_little(task):
    """What says nothing gets at most an eighth on average: an excuse, and filler that would suit every question."""
    assert scores(task, DODGE) <= 0.125
    assert scores(task, TALK) <= 0.125


@pytest.mark.parametrize("task", ["math", "qa", "extract", "summ", "rewrite", "translate", "classify"])
def test_the_prompt_is_no_answer_to_itself(task):
    """Nor is the text that stands in it to be worked on. (Of `write` and `chat` this is not said: they name what an answer must hold.)"""
    ours = [p for p in PROMPTS if p.task == task]

    assert mean(p.check.score(p.messages[-1]["content"]) for p in ours) <= 0.1
    assert mean(p.check.score(p.messages[-1]["content"].partition("\n\n")[2]) for p in ours) <= 0.1


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_prompts_of_every_difficulty(task):
    """At least 25, three of each; and no label that always wins."""
    ours = shipped([task])
    found = Counter(p.difficulty for p in ours)

    assert len(ours) >= 25
    assert set(found) == {1, 2, 3, 4, 5}
    assert min(found.values()) >= 3
    assert all(p.task == task and p.id.startswith(task + "-") for p in ours)
