"""Where weights are read from, and what is no weights file."""

import pytest

from bestserve.policy.classify import BadWeights
from bestserve.proxy import weights


def test_the_package_has_some():
    """Read once."""
    assert weights.shipped() is weights.shipped()
    assert len(weights.shipped().manifest.classes) == 10
    assert len(weights.confusion().task) > 1000


@pytest.mark.parametrize("data", [b"", b"x" * (weights.MOST + 1)], ids=["empty", "too large"])
def test_a_file_that_is_none_is_refused(tmp_path, data):
    """By name."""
    (tmp_path / "w.bin").write_bytes(data)

    with pytest.raises(BadWeights, match=r"w\.bin"):
        weights.load(tmp_path / "w.bin")
