"""The inside of the sandbox, from the outside: that it closes wherever it can."""

import ctypes
import sys

import pytest

from bestserve.proxy.quality import jail, sandbox


def test_the_door_closes_where_there_is_one():
    """Where libseccomp is, code is run and refused a file; the tests of the sandbox cannot all be skipped there."""
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux only")
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp here")

    assert sandbox.lack() is None


def test_nothing_runs_where_the_door_does_not_close(monkeypatch, tmp_path):
    """A jail without its lock computes, and is told to be no jail."""
    open_jail = tmp_path / "jail.py"
    open_jail.write_text(sandbox.JAIL.read_text().replace("    lock()\n", "", 1))
    monkeypatch.setattr(sandbox, "JAIL", open_jail)
    sandbox.lack.cache_clear()

    assert "not run here" in str(sandbox.lack())
    sandbox.lack.cache_clear()


def test_values_as_json_has_them():
    """Sets in order, iterators as lists, mappings as objects; what has no such form is an error."""
    names = {"Counter": __import__("collections").Counter}

    assert jail.one("{3, 1, 2}", names) == {"value": [1, 2, 3]}
    assert jail.one("(x for x in 'ab')", names) == {"value": ["a", "b"]}
    assert jail.one("Counter('aab')", names) == {"value": {"a": 2, "b": 1}}
    assert jail.one("object()", names) == {"error": "TypeError"}
