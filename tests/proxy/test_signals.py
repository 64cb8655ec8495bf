"""What is known of an answer beyond its Record."""

from bestserve.proxy.entries import Around, Lost, feedback_line, lost_line, record_line
from bestserve.proxy.signals import RETRY_S, joined

from .log_by_hand import record


def asked(name: str, *, at: float, prompt: str | None = "p1", writer: str = "w", seq: int = 1, left: bool = False) -> bytes:
    """An attempt that ended at `at`, half a second after it was begun."""
    return record_line(writer, seq, record(name, wall=1000.0 + at), Around(1.0, "team-a", prompt, left))


def said(decision: str, score: float, *, at: float, writer: str = "w", key: str = "team-a") -> bytes:
    return feedback_line(writer, 9, wall=1000.0 + at, decision=decision, key=key, score=score)


def signals(folder, *files: bytes):
    paths = []
    for i, content in enumerate(files):
        paths.append(folder / f"{i}.jsonl")
        paths[-1].write_bytes(content)
    problems = []
    found = {each.kept.decision: each.signals for each in joined(paths, problems.append)}
    assert not problems
    return found


def test_feedback_is_joined_wherever_it_stands(tmp_path):
    """Before its Record, in another worker's file; of several words the latest counts."""
    found = signals(
        tmp_path, said("d1", 0.2, at=5, writer="v") + said("d1", 0.8, at=9, writer="v"), asked("d1", at=1) + said("d1", 0.4, at=7)
    )
    assert found["d1"].score == 0.8


def test_only_the_word_of_a_decisions_own_key_counts(tmp_path):
    """Whatever another says of it, and however late."""
    assert signals(tmp_path, asked("d1", at=1) + said("d1", 0.4, at=7) + said("d1", 0.0, at=9, key="team-b"))["d1"].score == 0.4


def test_without_feedback_there_is_no_score(tmp_path):
    """And feedback without its Record, which the coin may have dropped, harms nothing."""
    assert signals(tmp_path, asked("d1", at=1) + said("other", 1.0, at=2))["d1"].score is None


def test_the_same_prompt_again_within_minutes_is_a_retry(tmp_path):
    """From the end of one answer to the begin of the next, also over files; later ones are none."""
    found = signals(
        tmp_path,
        asked("first", at=0) + asked("third", at=10 + RETRY_S + 1) + asked("other", at=3, prompt="p2"),
        asked("second", at=10, writer="v"),
    )
    assert found["first"].retried_s == 9.5
    assert found["second"].retried_s is None
    assert found["third"].retried_s is None
    assert found["other"].retried_s is None


def test_the_same_prompt_at_the_same_time_is_none(tmp_path):
    """The second was begun before the first had ended."""
    found = signals(tmp_path, asked("one", at=0.0) + asked("two", at=0.4))
    assert found["one"].retried_s is None


def test_a_prompt_without_a_name_is_never_a_retry(tmp_path):
    """Of what is only passed on, nothing is hashed."""
    found = signals(tmp_path, asked("one", at=0, prompt=None) + asked("two", at=5, prompt=None))
    assert found["one"].retried_s is None


def test_a_client_that_left_is_a_signal(tmp_path):
    """As the envelope says."""
    found = signals(tmp_path, asked("one", at=0, left=True) + lost_line(Lost("w", 1.0, 1, "full")))
    assert found["one"].left
    assert not found["one"].cut


def test_a_record_that_cannot_be_read_is_told(tmp_path):
    """With its file and line; the others are given."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(asked("one", at=0).replace(b'"schema":', b'"scheme":') + asked("two", at=0))
    problems = []
    assert [each.kept.decision for each in joined([path], problems.append)] == ["two"]
    assert [(p.path, p.line) for p in problems] == [(path, 1)]
