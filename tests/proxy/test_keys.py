"""Who may call: the key's whole hash decides, anything wrong is a 401, nobody exceeds the key's class or quota."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.proxy.config import Key
from bestserve.proxy.errors import OverQuota, Unauthorized
from bestserve.proxy.keys import ANONYMOUS, MAX_TOKEN_BYTES, Allowed, Caller, Keys, Quota, tier_for


def key(name: str, token: bytes, **more: object) -> Key:
    return Key(name=name, sha256=sha256(token).hexdigest(), **more)


TEAM = key("team", b"sk-team", requests_per_minute=2)
KEYS = Keys([TEAM, key("ops", b"sk-ops", tier="priority", admin=True), key("batch", b"sk-batch", tier="flex")])


def test_without_keys_everybody_may_call():
    """As anonymous, up to priority, never as admin, whatever is sent."""
    for header in (None, b"", b"Bearer x", b"\x00"):
        assert Keys([]).check(header) is ANONYMOUS
    assert Keys([]).open
    assert not ANONYMOUS.admin
    assert tier_for(ANONYMOUS, None) == "default"
    assert tier_for(ANONYMOUS, "priority") == "priority"


def test_a_key_is_known_by_its_token():
    """The scheme in any case, the hash in any case, blanks around the token allowed, a second time as the first."""
    assert KEYS.check(b"Bearer sk-ops") == Caller("ops", "priority", "priority", admin=True)
    assert KEYS.check(b"bearer sk-ops") == KEYS.check(b"BEARER  sk-ops ") == KEYS.check(b"Bearer sk-ops")
    assert KEYS.check(b"Bearer sk-team").name == "team"
    assert Keys([Key(name="a", sha256=sha256(b"x").hexdigest().upper())]).check(b"Bearer x").name == "a"


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer   ",
        b"sk-team",
        b"Basic sk-team",
        b"Bearer: sk-team",
        b"Bearer\tsk-team",
        b"Bearersk-team",
        b"Bearer sk-tea",
        b"Bearer sk-team2",
        b"Bearer SK-TEAM",
        b'Bearer "sk-team"',
        b"Bearer 'sk-team'",
        b"Bearer ' or '1'='1",
        b"Bearer sk-team\x00",
        b"Bearer \x00sk-team",
        b"Bearer sk-team, Bearer sk-ops",
        b"Bearer sk-team sk-ops",
        b"Bearer \xff\xfe\xc3\xa9",
        "Bearer sk-téam".encode(),
        "Bearer sk-\u200bteam".encode(),
        b"Bearer " + sha256(b"sk-team").hexdigest().encode(),
        b"Bearer " + sha256(b"sk-team").digest(),
        b"Bearer " + b"a" * 1_000_000,
        b"Bearer sk-team" + b" " * 1_000_000,
        b" " * 1_000_000,
        b"Bearer" * 200_000,
    ],
)
def test_what_is_no_known_key_is_a_401(header):
    """And stays one when it comes again; nothing of it is repeated."""
    for _ in range(2):
        with pytest.raises(Unauthorized) as caught:
            KEYS.check(header)

    assert caught.value.status == 401
    assert "sk-team" not in caught.value.message


@given(st.one_of(st.none(), st.binary(), st.binary().map(b"Bearer ".__add__), st.text().map(lambda text: f"Bearer {text}".encode())))
def test_nothing_sent_is_anything_but_a_known_key_or_a_401(header):
    """A token that nobody has lets nobody in."""
    try:
        caller = KEYS.check(header)
    except Unauthorized:
        return
    assert header is not None
    assert header.split()[1] in {b"sk-team", b"sk-ops", b"sk-batch"}
    assert caller.name != "anonymous"


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20))
def test_tokens_that_share_a_beginning_are_strangers(token, more):
    """The cache knows whole tokens only."""
    token = b"t" + token.replace(b" ", b"_").replace(b"\t", b"_")
    keys = Keys([key("a", token)])
    assert keys.check(b"Bearer " + token).name == "a"

    longer = token + b"." + more
    with pytest.raises(Unauthorized):
        keys.check(b"Bearer " + longer)


def test_only_known_keys_are_remembered():
    """Strangers leave nothing behind, however many."""
    keys = Keys([TEAM])

    for i in range(1000):
        with pytest.raises(Unauthorized):
            keys.check(b"Bearer %d" % i)
    keys.check(b"Bearer sk-team")

    assert len(keys._met) == 1


def test_the_longest_token_is_still_read():
    """A signed token of some kilobytes is a key like any other."""
    token = b"x" * (MAX_TOKEN_BYTES - len(b"Bearer "))

    assert Keys([key("long", token)]).check(b"Bearer " + token).name == "long"
    with pytest.raises(Unauthorized):
        Keys([key("longer", token + b"x")]).check(b"Bearer " + token + b"x")


@pytest.mark.parametrize(
    ("token", "asked", "served"),
    [
        (b"sk-team", None, "default"),
        (b"sk-team", "auto", "default"),
        (b"sk-team", "default", "default"),
        (b"sk-team", "flex", "flex"),
        (b"sk-team", "priority", "default"),
        (b"sk-team", "scale", "default"),
        (b"sk-team", "PRIORITY", "default"),
        (b"sk-batch", None, "flex"),
        (b"sk-batch", "auto", "flex"),
        (b"sk-batch", "default", "flex"),
        (b"sk-batch", "priority", "flex"),
        (b"sk-ops", None, "priority"),
        (b"sk-ops", "auto", "priority"),
        (b"sk-ops", "default", "default"),
        (b"sk-ops", "flex", "flex"),
        (b"sk-ops", "priority", "priority"),
    ],
)
def test_nobody_is_served_above_the_keys_class(token, asked, served):
    """What is asked for holds up to it; nothing, auto or an unknown word is the class itself."""
    assert tier_for(KEYS.check(b"Bearer " + token), asked) == served


def test_a_quota_counts_down_and_fills_evenly():
    """Sixty a minute is one a second after the first sixty."""
    quota = Quota(60)

    assert quota.take(100.0) == Allowed(limit=60, remaining=59, reset_s=1.0)
    for _ in range(59):
        left = quota.take(100.0)
    assert left == Allowed(limit=60, remaining=0, reset_s=60.0)
    with pytest.raises(OverQuota) as caught:
        quota.take(100.5)
    assert (caught.value.limit, caught.value.retry_after_s) == (60, 0.5)
    assert quota.take(101.0).remaining == 0
    assert quota.take(10_000.0).remaining == 59


def test_a_refused_request_costs_nothing():
    """Asking again and again does not push the next turn away."""
    quota = Quota(1)
    quota.take(0.0)

    for second in range(1, 60):
        with pytest.raises(OverQuota):
            quota.take(float(second))

    assert quota.take(60.0).remaining == 0


def test_a_clock_that_goes_back_gives_nothing_away():
    """Time that was counted once is not counted again."""
    quota = Quota(1)
    quota.take(100.0)

    for now in (70.0, 100.0, 70.0, 100.0):
        with pytest.raises(OverQuota):
            quota.take(now)


@given(st.integers(1, 10_000), st.lists(st.floats(0, 200), max_size=50), st.floats(0, 1e6))
def test_who_waits_as_told_is_let_through(limit, steps, start):
    """After exactly `retry_after_s`, whatever came before."""
    quota, now = Quota(limit), start
    for step in steps:
        now += step
        try:
            assert 0 <= quota.take(now).remaining < limit
        except OverQuota as refusal:
            now += refusal.retry_after_s
            quota.take(now)


@given(st.integers(1, 50), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_minute_sees_more_than_twice_the_quota(limit, steps):
    """A full bucket, and what flows in meanwhile."""
    quota, now, passed = Quota(limit), 0.0, []
    for step in steps:
        now += step
        try:
            quota.take(now)
        except OverQuota:
            continue
        passed.append(now)

    assert all(sum(start <= at <= start + 60 for at in passed) <= 2 * limit for start in passed)


def test_each_key_has_its_own_quota():
    """A key without one, and anonymous, are not counted."""
    keys = Keys([TEAM, key("free", b"sk-free")])
    team, free = keys.check(b"Bearer sk-team"), keys.check(b"Bearer sk-free")

    assert [keys.take(team, 0.0).remaining for _ in range(2)] == [1, 0]
    with pytest.raises(OverQuota):
        keys.take(team, 0.0)
    assert keys.take(free, 0.0) is None
    assert keys.take(ANONYMOUS, 0.0) is None
