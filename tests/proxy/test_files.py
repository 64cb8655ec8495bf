"""Files that are read whole: what cannot be read is refused by name."""

import pytest

from bestserve.proxy import files


def parsed(data):
    if data == b"bad":
        raise ValueError("no sense in it")
    return data.decode()


def test_a_file_is_read_whole(tmp_path):
    """Up to as many bytes as it may have."""
    (tmp_path / "f").write_bytes(b"four")

    assert files.read(tmp_path / "f", 4, parsed, ValueError) == "four"


@pytest.mark.parametrize(
    ("data", "why"), [(None, "cannot be read: No such file"), (b"five!", "larger than 4 bytes"), (b"bad", "no sense in it")]
)
def test_what_is_refused_names_the_file(tmp_path, data, why):
    """Missing, too large, or not what it should be."""
    if data is not None:
        (tmp_path / "f").write_bytes(data)

    with pytest.raises(ValueError, match=rf"/f: .*{why}"):
        files.read(tmp_path / "f", 4, parsed, ValueError)
