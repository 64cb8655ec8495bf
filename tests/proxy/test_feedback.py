"""Who may say what of which answer."""

import threading

import pytest

from bestserve.proxy.errors import BadAsk, NotFound, OverQuota
from bestserve.proxy.feedback import EDGE, MOST_CHANGES, Desk, Opinion, Seals, parse, secret_of

SEALS = Seals(b"a secret of the log")


def desk(per_minute: int = 1000) -> tuple[Desk, list[tuple[str, str, float]]]:
    kept: list[tuple[str, str, float]] = []
    return Desk(SEALS, per_minute, lambda *said: kept.append(said)), kept


def body(told: str, score: object) -> bytes:
    return f'{{"decision": "{told}", "score": {score}}}'.encode()


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('"score": 0', 0.0),
        ('"score": 1', 1.0),
        ('"score": 0.25', 0.25),
        ('"rating": "up"', 1.0),
        ('"rating": "down"', 0.0),
        ('"rating": "up", "comment": "thanks"', 1.0),
    ],
)
def test_a_score_or_a_rating(said, score):
    """What else is said is not looked at."""
    assert parse(f'{{"decision": "d.t", {said}}}'.encode()) == Opinion("d.t", score)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"decision": "d", "score": NaN}', "score"),
        ('{"decision": "d", "score": Infinity}', "score"),
        ('{"decision": "d", "score": 1.0000001}', "score"),
        ('{"decision": "d", "score": -0.1}', "score"),
        ('{"decision": "d", "score": 1e999}', "score"),
        ('{"decision": "d", "score": true}', "score"),
        ('{"decision": "d", "score": "1"}', "score"),
        ('{"decision": "d", "rating": "sideways"}', "rating"),
        ('{"decision": "d", "rating": ["up"]}', "rating"),
        ('{"decision": "d", "rating": "up", "score": 1}', "score"),
        ('{"decision": "d"}', "score"),
        ('{"decision": 7, "score": 1}', "decision"),
        ('{"decision": "", "score": 1}', "decision"),
        ('{"score": 1}', "decision"),
        ("[]", None),
        ("{", None),
        ("[" * 5000, None),
        ("\ud800", None),
    ],
)
def test_what_is_wrong_is_told_by_its_field(text, field):
    """Also the NaN that Python's own JSON writes."""
    with pytest.raises(BadAsk) as caught:
        parse(text.encode("utf-8", "surrogatepass"))
    assert caught.value.param == field


def test_an_id_is_good_for_its_own_caller_only():
    """Others learn nothing but that it is none of theirs, as of one that never was."""
    told = SEALS.told("d1", "team-a")
    assert SEALS.own(told, "team-a") == "d1"
    for caller, said in (
        ("team-b", told),
        ("team-a", "d1"),
        ("team-a", "d2." + told.partition(".")[2]),
        ("team-a", told + "0"),
        ("x", "."),
    ):
        with pytest.raises(NotFound, match="No decision with this id was made for this key"):
            SEALS.own(said, caller)


def test_another_secret_makes_other_ids():
    """And the same secret the same ones, in any process at any time."""
    assert Seals(b"another").told("d1", "a") != SEALS.told("d1", "a")
    assert Seals(b"a secret of the log").told("d1", "a") == SEALS.told("d1", "a")


def test_the_name_of_a_prompt_is_the_callers_own_and_says_nothing_of_it():
    """Length and both ends of a long one count."""
    long = b"a" * EDGE * 4
    named = {
        SEALS.prompt(*said) for said in (("a", b"hi"), ("b", b"hi"), ("a", b"ho"), ("a", long), ("a", long + b"a"), ("a", b"b" + long[1:]))
    }
    assert len(named) == 6
    assert SEALS.prompt("a", memoryview(long)) == SEALS.prompt("a", long)
    assert Seals(b"another").prompt("a", b"hi") not in named


def test_the_same_again_is_taken_and_written_once():
    """A changed mind is written; the latest counts when it is read."""
    taker, kept = desk()
    told = SEALS.told("d1", "a")
    for score in (1, 1, 0.5, 0.5, 1):
        assert taker.take("a", body(told, score), 0.0) == Opinion(told, float(score))
    assert kept == [("d1", "a", 1.0), ("d1", "a", 0.5), ("d1", "a", 1.0)]


def test_nobody_changes_a_mind_forever():
    """A decision is written down so many times and no more."""
    taker, kept = desk(per_minute=100_000)
    told = SEALS.told("d1", "a")
    for i in range(MOST_CHANGES):
        taker.take("a", body(told, i / 10_000), 0.0)
    for i in range(MOST_CHANGES, 10_000):
        with pytest.raises(BadAsk, match="was rated 8 times"):
            taker.take("a", body(told, i / 10_000), 0.0)
    assert len(kept) == MOST_CHANGES


def test_one_key_says_so_much_a_minute_and_another_is_not_held_up():
    """Also what is wrong counts, so that ids cannot be tried out."""
    taker, kept = desk(per_minute=60)
    refused = 0
    for i in range(10_000):
        try:
            taker.take("a", body(SEALS.told(f"d{i}", "a"), 0), 0.0)
        except OverQuota:
            refused += 1
    assert (len(kept), refused) == (60, 9_940)
    assert taker.take("b", body(SEALS.told("d", "b"), 1), 0.0).score == 1.0
    for _ in range(60):
        with pytest.raises(NotFound):
            taker.take("c", body("x.y", 1), 0.0)
    with pytest.raises(OverQuota):
        taker.take("c", body("x.y", 1), 0.0)


def test_what_could_not_be_kept_may_be_said_again():
    """A full log refuses, and the next try is not taken for a repetition."""
    kept: list[str] = []

    def refuse_once(decision: str, caller: str, score: float) -> None:
        if not kept:
            kept.append("refused")
            raise ConnectionError
        kept.append(decision)

    taker = Desk(SEALS, 100, refuse_once)
    told = SEALS.told("d1", "a")
    with pytest.raises(ConnectionError):
        taker.take("a", body(told, 1), 0.0)
    taker.take("a", body(told, 1), 0.0)
    assert kept == ["refused", "d1"]


def test_processes_that_start_together_find_one_secret(tmp_path):
    """Whoever comes first makes it; nobody but the owner may read it."""
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(secret_of(tmp_path / "new"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 16
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    assert [(path.name, path.stat().st_mode & 0o777) for path in (tmp_path / "new").iterdir()] == [("secret", 0o600)]
