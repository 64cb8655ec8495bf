"""A small training end to end: what is told, tuned, written, and what comes back."""

import numpy as np
import pytest

from bestserve.policy.classify import Classifier
from bestserve.policy.confusion import from_bytes
from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt
from bestserve.policy.learn import linear, tasks
from bestserve.policy.learn.linear import Args, Scores, Tuning
from bestserve.policy.learn.prompts import Row

WORDS = {task: [f"{task}{k}" for k in range(4)] for task in TASKS}
LENGTH = {task: 4.0 * 2**i for i, task in enumerate(TASKS)}
ARGS = Args(size=2000, epochs=8)


def rows(n: int = 60) -> list[Row]:
    """Prompts of a word of their task among words of all; every fifth is a follow-up that says nothing itself."""
    rng = np.random.default_rng(3)
    made = []
    for task in TASKS:
        for k in range(n):
            text = " ".join([*rng.choice(["the", "a", "please", "now", "this"], 4), str(rng.choice(WORDS[task])), "thing"])
            prompt = Prompt.of("again", before=text) if k % 5 == 0 else Prompt.of(text)
            made.append(Row(prompt, task, tokens=LENGTH[task] * float(rng.uniform(0.7, 1.4)), source="seeds"))
    return made


@pytest.fixture(scope="module")
def came() -> tasks.Trained:
    steps: list[tuple[int, int]] = []
    came = tasks.trained(rows(), {t: {t: 1.0} for t in TASKS}, {"seed": 0}, ARGS, lambda done, of: steps.append((done, of)))
    assert steps[-1][0] == steps[-1][1]
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    return came


def test_what_was_learnt_is_told(came):
    """By the file alone; also what only the message before says, and how long an answer gets."""
    classifier, lengths = Classifier.from_bytes(came.weights), []

    for task in TASKS:
        first = classifier.guess(Prompt.of(f"please the {task}1 thing"))
        later = classifier.guess(Prompt.of("again", before=f"please the {task}1 thing"))
        assert first.name == later.name == task
        lengths.append(first.length.median)
    assert np.corrcoef(np.log(lengths), np.log(list(LENGTH.values())))[0, 1] > 0.95


def test_held_out_rows_are_measured(came):
    """Every row once, by group, and nothing is told that was seen."""
    assert came.report["all"]["n"] == len(rows())
    assert came.report["all"]["accuracy"] > 0.8
    assert came.report["turn"]["follow-up"]["n"] == len(rows()) // 5
    assert came.report["length"]["r2"] > 0.6
    assert set(came.report["class"]) == set(TASKS)


def test_the_file_says_what_the_model_says():
    """Bytes instead of floats: the same likeliest class, and nearly the same probabilities."""
    model = linear.fit(rows(), TASKS, ARGS)
    prompts = [row.prompt for row in rows(5)]
    tuning = Tuning((1.1, 1.0, 0.9), 1.2, (0.5, 0.2, 0.1))
    p, _ = model.scores(prompts).tuned(tuning)

    classifier = Classifier.from_bytes(linear.written(model, {}, tuning, {}))

    told = np.array([classifier.guess(prompt).classes for prompt in prompts])
    assert (told.argmax(axis=1) == p.argmax(axis=1)).mean() > 0.98
    assert np.abs(told - p).max() < 0.05


def test_the_simulator_has_something_to_draw_from(came):
    """Each held-out row, with its task and how far its length was off."""
    confusion = from_bytes(came.confusion or b"")

    assert np.bincount(confusion.task).tolist() == [60] * len(TASKS)
    assert np.abs(confusion.off).mean() < 1.0


def test_a_class_without_rows_is_refused():
    """By name."""
    with pytest.raises(ValueError, match="chat"):
        linear.fit([row for row in rows() if row.task != "chat"], TASKS, ARGS)


def test_a_merged_class_counts_for_its_tasks():
    """Quality is looked up by built-in tasks: shares of the class's probability."""
    made_of = {**{t: {t: 1.0} for t in TASKS if t not in ("summ", "rewrite")}, "edit": {"summ": 0.5, "rewrite": 0.5}}
    renamed = [Row(r.prompt, "edit" if r.task in ("summ", "rewrite") else r.task, tokens=r.tokens, source="seeds") for r in rows()]

    came = tasks.trained(renamed, made_of, {}, ARGS, lambda done, of: None)

    guess = Classifier.from_bytes(came.weights).guess(Prompt.of("please the summ1 thing"))
    assert guess.name == "edit"
    assert guess.task[TASKS.index("summ")] == pytest.approx(guess.task[TASKS.index("rewrite")])
    assert sum(guess.task) == pytest.approx(1.0)
    assert came.confusion is None  # nothing is labelled summ


def test_words_alone_can_be_learnt_from():
    """Rows of traffic whose text was not kept, with what their answers said."""
    soft = tuple(float(task == "code") for task in TASKS)
    more = [Row(Prompt.of(""), None, soft=soft, words=("frobnicate",), source="traffic") for _ in range(50)]

    model = linear.fit([*rows(), *more], TASKS, ARGS)

    p, _ = model.scores([Prompt.of("frobnicate")]).tuned(Tuning())
    assert TASKS[int(p[0].argmax())] == "code"


def test_tuning_finds_the_heat():
    """Scores that are twice too sure are cooled to half; carrying helps where the message before knows."""
    rng = np.random.default_rng(0)
    n = 4000
    z = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.array([rng.choice(3, p=p) for p in linear.softmaxed(z).astype(float) / linear.softmaxed(z).astype(float).sum(1, keepdims=True)])
    own = np.column_stack([2 * z, np.zeros(n, np.float32)])
    scores = Scores(own, np.zeros_like(own), np.zeros(n, np.int64), np.zeros(n, np.int64))
    labelled = [Row(Prompt.of("x"), "abc"[k]) for k in y]

    tuning = tasks.tuned(scores, labelled, tuple("abc"), Args())

    assert tuning.heats[0] == pytest.approx(2.0, rel=0.1)
    assert tuning.carry == (0.0, 0.0, 0.0)


def test_follow_ups_get_a_heat_of_their_own():
    """Where what is carried over makes them surer than they are right; first messages keep theirs."""
    rng = np.random.default_rng(1)
    n = 3000
    z = rng.normal(size=(n, 3)).astype(np.float32)
    true = linear.softmaxed(z).astype(float)
    y = [rng.choice(3, p=p / p.sum()) for p in true]
    later = np.arange(n) % 3 == 0
    own, before = np.column_stack([z, np.zeros(n, np.float32)]), np.zeros((n, 4), np.float32)
    own[later], before[later, :3] = 0.0, 2 * z[later]
    scores = Scores(own, before, np.zeros(n, np.int64), np.zeros(n, np.int64))
    labelled = [Row(Prompt.of("x", before="y" if late else ""), "abc"[k]) for k, late in zip(y, later, strict=True)]

    tuning = tasks.tuned(scores, labelled, tuple("abc"), Args())

    assert tuning.heats[0] == pytest.approx(1.0, rel=0.1)
    assert 2 * tuning.carry[0] / tuning.followed == pytest.approx(1.0, rel=0.15)


def test_our_own_seeds_are_taken_for_surer_than_strangers_are():
    """In plain ASCII alone, which is where it was measured."""
    rng = np.random.default_rng(2)
    z = rng.normal(size=(900, 3)).astype(np.float32)
    labels = [rng.choice(3, p=p / p.sum()) for p in linear.softmaxed(z).astype(float)]
    scores = Scores(np.column_stack([z, z[:, 0]]), np.zeros((900, 4), np.float32), np.zeros(900, np.int64), np.arange(900) % 3)

    ours, others = (
        tasks.tuned(scores, [Row(Prompt.of("x"), "abc"[k], source=s) for k in labels], tuple("abc"), Args()) for s in ("seeds", "x")
    )

    assert ours.heats == (others.heats[0] * tasks.STRANGERS, *others.heats[1:])


def test_what_is_measured_was_not_tuned_on():
    """Each part's probabilities are those of the others' tuning."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(500, 4)).astype(np.float32)
    scores = Scores(z, np.zeros_like(z), np.zeros(500, np.int64), np.zeros(500, np.int64))
    labelled = [Row(Prompt.of("x"), "abc"[k]) for k in rng.integers(3, size=500)]

    p, own = tasks.crossed(scores, labelled, tuple("abc"), Args(), 5)

    rest = np.flatnonzero(np.arange(500) % 5)
    first, _ = scores.tuned(tasks.tuned(scores.some(rest), [labelled[i] for i in rest.tolist()], tuple("abc"), Args()))
    assert np.array_equal(p[::5], first[::5])
    assert np.array_equal(own, z[:, 3])
