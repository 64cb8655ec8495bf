"""Files that are read whole: what cannot be read is refused by name. And files that are written whole, or not at all."""

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


@pytest.mark.parametrize("lasting", [True, False])
def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path, monkeypatch, lasting):
    """What was there before is read until the new one is complete; a disk that is full leaves nothing beside it."""
    path = tmp_path / "f"
    files.write(path, b"before", lasting=lasting)
    files.write(path, b"now", lasting=lasting)
    assert path.read_bytes() == b"now"

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"later", lasting=lasting)
    assert path.read_bytes() == b"now"
    assert list(tmp_path.iterdir()) == [path]
