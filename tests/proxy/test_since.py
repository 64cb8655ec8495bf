"""Times as people say them."""

import pytest

from bestserve.proxy.since import since


@pytest.mark.parametrize(
    ("text", "at"),
    [("90s", 999_910), ("30m", 998_200), ("1.5h", 994_600), ("7d", 395_200), ("1970-01-02", 86_400), ("1970-01-01T01:00:00+01:00", 0)],
)
def test_a_time_ago_or_a_date(text, at):
    """At second 1,000,000 of 1970; a date without a zone is UTC."""
    assert since(text, 1_000_000) == at


def test_what_is_neither_is_refused_with_examples():
    """In a sentence."""
    with pytest.raises(ValueError, match="'yesterday' is neither a time ago like 24h"):
        since("yesterday", 0)
