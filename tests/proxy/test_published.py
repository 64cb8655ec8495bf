"""The directory of published policies: what decides, where a rollback goes, and what a kill or another writer may leave."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result

from bestserve.policy.checkpoint import BadCheckpoint, Checkpoint, to_bytes
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught
from bestserve.proxy import published
from bestserve.proxy.cli import main
from bestserve.proxy.published import NOBODY, Unpublished

RANGE = np.zeros(N_ROW + N_CONTEXT)


def policy(seed: int) -> bytes:
    """A checkpoint of its own."""
    return to_bytes(Checkpoint(untaught(), (0.05, 0.7, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {"seed": seed}))


class Directory:
    """One whose clock goes on a minute with each thing that is done."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 1.7e9

    def wall(self) -> float:
        self.now += 60
        return self.now

    def publish(self, seed: int) -> str:
        return published.publish(self.path, policy(seed), {"reason": f"seed {seed}"}, wall=self.wall)

    def promote(self, version: str) -> bool:
        return published.promote(self.path, version, "it stands", wall=self.wall)

    def rollback(self, why: str = "worse") -> str | None:
        return published.rollback(self.path, why, wall=self.wall).version

    @property
    def states(self) -> dict[str, str]:
        return {v.version: v.state for v in published.listed(self.path)}


@pytest.fixture
def there(tmp_path):
    return Directory(tmp_path / "policies")


def test_where_nothing_was_published_nobody_decides(tmp_path):
    """Neither a directory nor a file is needed."""
    assert published.current(tmp_path / "none") == NOBODY
    assert published.listed(tmp_path / "none") == []


def test_what_is_published_is_on_trial_against_what_stood(there):
    """The first against what the config says; it can be read, with its verdict, and nothing is left beside."""
    first = there.publish(1)
    pointer = published.current(there.path)
    assert (pointer.version, pointer.trial, pointer.stands) == (first, True, None)
    assert there.promote(first)
    second = there.publish(2)
    assert published.current(there.path).stands == first
    assert published.load(there.path, second).about == {"seed": 2}
    assert [v.verdict["reason"] for v in published.listed(there.path)] == ["seed 2", "seed 1"]
    assert there.states == {first: "stood", second: "on trial"}
    assert not list(there.path.glob(".*"))


def test_one_that_is_published_during_a_trial_takes_its_place(there):
    """It is compared with what stands, not with another one on trial."""
    first = there.publish(1)
    there.promote(first)
    there.publish(2)
    third = there.publish(3)
    assert (published.current(there.path).version, published.current(there.path).before) == (third, (first,))


def test_a_rollback_goes_to_the_one_before_step_by_step_to_the_config(there):
    """What was rolled back is never gone back to; the reason is kept."""
    versions = [there.publish(seed) for seed in (1, 2, 3)]
    there.promote(versions[2])  # 1 and 2 never stood
    fourth = there.publish(4)
    assert there.rollback("below the band") == versions[2]
    assert there.states[fourth] == "rolled back"
    assert next(v.why for v in published.listed(there.path) if v.version == fourth) == "below the band"
    fifth = there.publish(5)
    there.promote(fifth)
    assert there.rollback() == versions[2]
    assert there.rollback() is None
    with pytest.raises(Unpublished, match="nothing to go back from"):
        there.rollback()


def test_only_what_is_on_trial_is_promoted_or_rolled_back_by_its_name(there):
    """A worker that is late with its opinion changes nothing."""
    first, second = there.publish(1), there.publish(2)
    assert not there.promote(first)
    assert not published.withdraw(there.path, first, "late")
    assert there.promote(second)
    assert not there.promote(second)
    assert not published.withdraw(there.path, second, "late")
    third = there.publish(3)
    assert published.withdraw(there.path, third, "worse")
    assert published.current(there.path).version == second


def test_a_pinned_version_decides_whatever_is_published(there):
    """Until it is unpinned: then the newest that was not rolled back is on trial against it."""
    first, second = there.publish(1), there.publish(2)
    there.rollback()
    pointer = published.pin(there.path, first[-8:], wall=there.wall)
    assert (pointer.version, pointer.pinned, pointer.trial) == (first, True, False)
    third = there.publish(3)
    assert published.current(there.path).version == first
    assert there.states == {first: "pinned", second: "rolled back", third: "waits"}
    with pytest.raises(Unpublished, match="is pinned"):
        there.rollback()
    pointer = published.unpin(there.path, wall=there.wall)
    assert (pointer.version, pointer.trial, pointer.stands, pointer.pinned) == (third, True, first, False)
    with pytest.raises(Unpublished, match="nothing is pinned"):
        published.unpin(there.path)


def test_unpinning_the_newest_leaves_it(there):
    """It has been chosen by hand: no trial."""
    first = there.publish(1)
    published.pin(there.path, f"actor-{first[-8:]}")
    pointer = published.unpin(there.path)
    assert (pointer.version, pointer.trial, pointer.pinned) == (first, False, False)


def test_an_unknown_version_is_told_with_the_nearest(there):
    """As is one that two versions could be."""
    version = there.publish(1)
    with pytest.raises(Unpublished, match=f"did you mean {version}"):
        published.pin(there.path, version[:-1] + "x")
    there.publish(1)  # the same bytes again
    with pytest.raises(Unpublished, match="is any of"):
        published.find(there.path, version[-8:])
    assert published.find(there.path, version) == version


def test_what_is_no_checkpoint_is_not_published(there):
    """Nothing is made of it."""
    with pytest.raises(BadCheckpoint):
        published.publish(there.path, b"junk", {})
    assert not there.path.exists()


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"version": "../../etc/passwd", "before": []}', b'{"other": 1, "before": []}'])
def test_a_damaged_pointer_is_told(there, junk):
    """With the file."""
    there.publish(1)
    (there.path / published.CURRENT).write_bytes(junk)
    with pytest.raises(Unpublished, match=r"policies/current"):
        published.current(there.path)


def test_a_torn_history_goes_on(there):
    """A kill leaves half a line, which the next writer clears away; half a line in the middle is told with its number."""
    there.publish(1)
    path = there.path / published.HISTORY
    path.write_bytes(path.read_bytes() + b'{"at": 1.7e')
    assert len(list(published.history(there.path))) == 1
    there.publish(2)
    assert [line["did"] for line in published.history(there.path)] == ["publish", "publish"]
    path.write_bytes(b"{\n" + path.read_bytes())
    with pytest.raises(Unpublished, match=r"history.jsonl:1"):
        list(published.history(there.path))


def test_writers_beside_each_other_lose_nothing(there):
    """Three processes publish five each: every one is there, and the last one is on trial."""
    code = """
import sys, pathlib
sys.path.insert(0, sys.argv[3])
from tests.proxy.test_published import policy
from bestserve.proxy import published
for i in range(5):
    published.publish(pathlib.Path(sys.argv[1]), policy(100 * int(sys.argv[2]) + i), {})
"""
    root = str(Path(__file__).parents[2])
    processes = [subprocess.Popen([sys.executable, "-c", code, str(there.path), str(i), root]) for i in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    versions, done = published.listed(there.path), list(published.history(there.path))
    assert len(versions) == len(done) == 15
    assert published.current(there.path).version == done[-1]["version"]


def said(*words: str) -> Result:
    return CliRunner().invoke(main, ["policy", *words])


def test_the_command_line_lists_shows_pins_and_goes_back(there):
    """Each verb as JSON and for people, and what cannot be done as one line and exit code 1."""
    first, second = there.publish(1), there.publish(2)
    where = ("--dir", str(there.path))
    told = orjson.loads(said("list", *where, "--json").stdout)
    assert [v["version"] for v in told["versions"]] == [second, first]
    assert "on trial" in said("list", *where).stdout
    shown = orjson.loads(said("show", *where, "--json").stdout)
    assert (shown["version"], shown["verdict"], shown["about"]) == (second, {"reason": "seed 2"}, {"seed": 2})
    assert orjson.loads(said("pin", first, *where, "--json").stdout)["pinned"]
    refused = said("rollback", *where)
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {first} is pinned: pin another version, or unpin first\n")
    assert said("unpin", *where).stdout == f"{second} decides on trial\n"
    assert said("rollback", "--why", "we said so", *where).stdout == f"{first} decides\n"
    assert "we said so" in said("show", second, *where).stdout


def test_a_file_is_published_from_the_command_line(there):
    """On trial; one that is no checkpoint is told by its name."""
    file = there.path.parent / "p.ckpt"
    file.write_bytes(policy(7))
    told = said("publish", str(file), "--dir", str(there.path), "--json")
    pointer = orjson.loads(told.stdout)
    assert (pointer["trial"], published.load(there.path, pointer["version"]).about) == (True, {"seed": 7})
    file.write_bytes(b"junk")
    refused = said("publish", str(file), "--dir", str(there.path))
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: {file}: these bytes are no checkpoint")
