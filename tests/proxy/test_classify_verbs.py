"""`bestserve classify`: one prompt, a training, a report; wrong files are told by line."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bestserve.policy.classify import Classifier
from bestserve.policy.facts import TASKS
from bestserve.policy.features import Prompt
from bestserve.policy.signals import signal
from bestserve.proxy.cli import main
from bestserve.proxy.entries import record_line
from bestserve.proxy.weights import shipped

from .log_by_hand import AROUND, record


def run(*words: str, code: int = 0) -> str:
    said = CliRunner().invoke(main, ["classify", *words])
    assert said.exit_code == code, said.output
    return said.output


def test_one_prompt_is_told():
    """Probabilities, the expected length, the strongest features; the verb may be left out."""
    told = json.loads(run("tell", "Translate to French: good morning", "--json"))

    assert told["task"] == "translate"
    assert sum(told["probabilities"].values()) == pytest.approx(1.0)
    assert told["tokens"]["q90"] > told["tokens"]["median"]
    assert told["features"]
    assert "translate" in run("Translate to French: good morning")


def test_standard_input_is_read():
    """For what is longer than a line."""
    said = CliRunner().invoke(main, ["classify", "-", "--json"], input="Solve 3x + 7 = 22")

    assert json.loads(said.output)["task"] == "math"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of a few seeds and one small grammar."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "seeds").mkdir()
    (folder / "templates").mkdir()
    with (folder / "seeds/en.jsonl").open("w") as file:
        for task in TASKS:
            for i in range(12):
                file.write(json.dumps({"task": task, "lang": "en", "text": f"please {task}word number {i}", "tokens": 10 + i}) + "\n")
    grammar = "".join(f"\n== {task} 50\n(do|make|please|) {task}word (now|again|today|)\n" for task in TASKS)
    (folder / "templates/en.txt").write_text(grammar)
    return folder


def test_a_class_of_ones_own_is_trained(own, tmp_path):
    """From labelled lines; it is told, and counts for the tasks it is made of."""
    mine = tmp_path / "mine.jsonl.gz"
    with gzip.open(mine, "wt") as file:
        file.writelines(json.dumps({"task": "legal", "text": f"review clause {i} of the lease"}) + "\n" for i in range(60))

    told = json.loads(
        run(
            "train",
            "--own", str(own),
            "--data", str(mine),
            "--add", "legal=qa:0.7,extract:0.3",
            "--merge", "edit=summ,rewrite",
            "--out", str(tmp_path / "w.bin"),
            "--size", "2000",
            "--json",
        )
    )  # fmt: skip

    guess = Classifier.from_bytes((tmp_path / "w.bin").read_bytes()).guess(Prompt.of("review clause 3 of the lease"))
    assert told["all"]["n"] == 12 * len(TASKS) + 60
    assert guess.name == "legal"
    assert guess.task[TASKS.index("qa")] > guess.task[TASKS.index("extract")] > 0.1
    assert json.loads(run("review the lease", "--weights", str(tmp_path / "w.bin"), "--json"))["task"] == "legal"


def logged(folder: Path, *texts: str, weights: str = shipped().id) -> Path:
    """A replay log: a record with a signal for each text, of answers that were code, and one without."""
    signals_ = [
        signal(shipped().rows(Prompt.of(text), 64), [0.1] * 10, fence=True, json=False, tokens=300, weights=weights) for text in texts
    ]
    lines = [record_line("w", i, replace(record(f"d{i}"), signal=said), AROUND) for i, said in enumerate([*signals_, None], 1)]
    path = folder / "log.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_a_log_is_learnt_from(own, tmp_path):
    """Words that were answered with code speak for code; no text is needed."""
    said = ("train", "--own", str(own), "--size", "2000", "--json", "--out")
    run(*said, str(tmp_path / "without.bin"))
    told = run(*said, str(tmp_path / "with.bin"), "--log", str(logged(tmp_path, *["garden river music"] * 60)))

    with_, without = (
        Classifier.from_bytes((tmp_path / f"{name}.bin").read_bytes()).guess(Prompt.of("garden river music")).task[TASKS.index("code")]
        for name in ("with", "without")
    )
    assert "60 signals in 61 records" in told
    assert with_ > without + 0.3


@pytest.mark.parametrize(
    ("texts", "weights", "words", "says"),
    [
        ((), "", (), "learn: true"),
        (("cake",), "0" * 16, (), "--weights names"),
        (("cake",), shipped().id, ("--add", "legal=qa"), "--log"),
    ],
)
def test_a_log_that_teaches_nothing_is_told(own, tmp_path, texts, weights, words, says):
    """Without signals, with those of other weights, or beside classes that signals do not know."""
    log = logged(tmp_path, *texts, weights=weights)

    assert says in run("train", "--own", str(own), "--log", str(log), *words, "--out", str(tmp_path / "w.bin"), code=1)
    assert not (tmp_path / "w.bin").exists()


def test_labelled_prompts_are_reported(tmp_path):
    """A table for people, numbers for programs."""
    test = tmp_path / "t.jsonl"
    rows = (
        {"task": "translate", "text": "translate to french: hello", "tokens": 3},
        {"label": "math", "text": "what is 3 + 4?", "tokens": 9},
    )
    test.write_text("\n".join(map(json.dumps, rows)))

    assert json.loads(run("report", "--data", str(test), "--json"))["all"]["n"] == 2
    assert "accuracy" in run("report", "--data", str(test))


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "t.jsonl:1"), ('{"text": "x", "task": "poetry"}', "poetry"), ('{"text": "x", "tokens": 3}', "no row is labelled")],
)
def test_a_wrong_file_is_told(tmp_path, line, says):
    """By line, and what is the matter."""
    (tmp_path / "t.jsonl").write_text(line + "\n")

    assert says in run("report", "--data", str(tmp_path / "t.jsonl"), code=1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--own", "/nowhere"), "checkout"),
        (("--add", "legal"), "legal"),
        (("--add", "legal=qa"), "no row is labelled legal"),
        (("--data", "/nowhere.jsonl"), "cannot be read"),
    ],
)
def test_a_training_that_cannot_be_is_told(own, tmp_path, words, says):
    """Before anything is fitted, and nothing is written."""
    said = run("train", "--own", str(own), *words, "--out", str(tmp_path / "w.bin"), code=1)

    assert says in said
    assert not (tmp_path / "w.bin").exists()


def test_weights_that_are_none_are_told(tmp_path):
    """By file."""
    (tmp_path / "w.bin").write_bytes(b"junk")

    assert "w.bin" in run("tell", "x", "--weights", str(tmp_path / "w.bin"), code=1)
    assert "cannot be read" in run("tell", "x", "--weights", str(tmp_path / "none.bin"), code=1)
