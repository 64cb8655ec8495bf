"""What one writer owes."""

import subprocess
import sys

import pytest

from bestserve.proxy.ledger import Ledger


def test_nobody_inherits_from_the_living(tmp_path):
    """The lock says so, within one process as between two."""
    ledger = Ledger.make(tmp_path, "h-1-00000001")
    assert Ledger.inherit(ledger.path) is None
    ledger.close()
    assert Ledger.inherit(ledger.path) is not None


def test_the_counts_outlive_a_kill(tmp_path):
    """A process that is gone without a word leaves them as they were."""
    code = (
        "import os, sys, pathlib; from bestserve.proxy.ledger import Ledger\n"
        "ledger = Ledger.make(pathlib.Path(sys.argv[1]), 'h-1-00000001')\n"
        "ledger.made, ledger.sealed = 2**40, 7\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9

    found = Ledger.inherit(tmp_path / "h-1-00000001.ledger")
    assert found is not None
    assert (found.writer, found.made, found.sealed) == ("h-1-00000001", 2**40, 7)
    found.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"bsledger", b"x" * 64])
def test_a_ledger_that_is_none_is_cleared_away(tmp_path, content):
    """Its writer died while making it; there is nothing to be known."""
    path = tmp_path / "h-1-00000001.ledger"
    path.write_bytes(content)
    assert Ledger.inherit(path) is None
    assert not path.exists()


def test_a_ledger_that_has_gone_is_nobodys(tmp_path):
    """Another process settled it."""
    assert Ledger.inherit(tmp_path / "h-1-00000001.ledger") is None
