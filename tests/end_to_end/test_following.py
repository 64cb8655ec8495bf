"""What is published is followed, within one process: taken up, refused, tried in turns, rolled back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bestserve.policy.canary import is_new
from bestserve.proxy import app, published
from bestserve.proxy.follow import Follower
from tests.policies_by_hand import breaks, doubts, narrow, sheds, sound

from .world import World, chat, world

pytestmark = pytest.mark.anyio

NO_TRIAL = "deadline-greedy, canary: {pairs: 0}"
TRIAL = "deadline-greedy, canary: {window_s: 30, pairs: 4, requests: 2}"


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch):
    """Nobody looks but the test."""

    async def nobody(_: object) -> None:
        pass

    monkeypatch.setattr(app, "keep_following", nobody)


class Clock:
    """A wall clock that is moved by hand; time within a process goes on as ever."""

    def __init__(self) -> None:
        self.now = 60_000 * 30.0

    def __call__(self) -> float:
        return self.now


def folder(here: World) -> Path:
    return here.config.policy.dir


def metric(here: World, line: str) -> bool:
    return line in here.serving.exposition().decode().splitlines()


async def decided(here: World) -> str:
    """The policy that the next request meets."""
    client = await (await here.ask(chat())).head()
    await client.body()
    await here.settled()
    return here.serving.recent[-1].decision.policy


async def in_turns(here: World, clock: Clock, windows: int) -> None:
    """Three requests in each window, late enough to count; the follower looks between."""
    follower = Follower(here.serving)
    for _ in range(windows):
        clock.now += 10.0
        await follower.step()
        for _ in range(3):
            await decided(here)
        clock.now += 20.0


async def test_what_is_published_decides_without_a_restart(tmp_path):
    """Its name is in the answer, the Record and the metrics; a request under way keeps what decided it; a rollback goes back."""
    async with world(tmp_path, policy=NO_TRIAL) as here:
        assert await decided(here) == "deadline-greedy"
        version = published.publish(folder(here), sound(), {})
        follower = Follower(here.serving)
        await follower.step()  # reads it
        await follower.step()
        name = f"actor-{version[-8:]}"
        assert await decided(here) == here.serving.chooser.name == name
        assert metric(here, f'bestserve_policy_info{{version="{name}"}} 1.0')
        assert metric(here, 'bestserve_policy_info{version="deadline-greedy"} 0.0')
        published.rollback(folder(here), "we said so")
        await follower.step()
        assert await decided(here) == "deadline-greedy"


async def test_what_was_published_before_the_start_decides_from_the_first_request(tmp_path):
    """And after a reload of the config; unless the config says `checkpoint: none`."""
    version = published.publish(tmp_path / "policies", sound(), {})
    published.promote(tmp_path / "policies", version, "")
    async with world(tmp_path, policy="deadline-greedy") as here:
        assert await decided(here) == f"actor-{version[-8:]}"
        here.serving.adopt(here.config)
        assert await decided(here) == f"actor-{version[-8:]}"
    async with world(tmp_path, policy="deadline-greedy, checkpoint: none") as here:
        assert await decided(here) == "deadline-greedy"


async def test_another_directory_is_another_matter(tmp_path, monkeypatch):
    """After a reload that names one, nothing of the one before decides, though the new one cannot be read. No reload reads either."""
    version = published.publish(tmp_path / "policies", sound(), {})
    published.promote(tmp_path / "policies", version, "")
    async with world(tmp_path, policy="deadline-greedy") as here:
        there, before = tmp_path / "elsewhere", here.config
        there.mkdir()
        (there / published.CURRENT).write_text("{")
        elsewhere = before.model_copy(update={"policy": before.policy.model_copy(update={"dir": there})})
        follower = Follower(here.serving)
        await follower.step()
        with monkeypatch.context() as patched:
            patched.setattr("bestserve.proxy.deciders.take", None)
            here.serving.adopt(elsewhere)
        assert await decided(here) == "deadline-greedy"
        await follower.step()
        assert await decided(here) == "deadline-greedy"
        here.serving.adopt(before)
        await follower.step()
        assert await decided(here) == f"actor-{version[-8:]}"


def junk(there: Path, version: str) -> None:
    (there / f"{version}.ckpt").write_bytes(b"junk")


def others(there: Path, version: str) -> None:
    (there / f"{version}.ckpt").write_bytes(sound(99))


def gone(there: Path, version: str) -> None:
    (there / f"{version}.ckpt").unlink()


def no_pointer(there: Path, version: str) -> None:
    (there / published.CURRENT).write_text("{")


@pytest.mark.parametrize("damage", [junk, others, gone, no_pointer])
async def test_one_that_cannot_be_used_leaves_what_decided(tmp_path, caplog, damage: Callable[[Path, str], None]):
    """The file is named once, a metric counts it, and nothing fails; when it can be used, it is."""
    there = tmp_path / "policies"
    first = published.publish(there, sound(1), {})
    published.promote(there, first, "")
    async with world(tmp_path, policy=NO_TRIAL) as here:
        second = published.publish(there, sound(2), {})
        published.promote(there, second, "")
        kept = tmp_path / "kept"
        shutil.copytree(there, kept)
        damage(there, second)
        follower = Follower(here.serving)
        for _ in range(3):
            await follower.step()
            assert await decided(here) == f"actor-{first[-8:]}"
        assert metric(here, "bestserve_policy_refused_total 1.0")
        assert caplog.text.count(str(there)) == 1
        assert str(there) in here.serving.deciders.state()["refused"][0]
        shutil.copytree(kept, there, dirs_exist_ok=True)
        await follower.step()
        assert await decided(here) == f"actor-{second[-8:]}"


async def test_one_that_fails_at_a_sample_request_never_decides(tmp_path):
    """Its weights are finite; what comes of them is not."""
    async with world(tmp_path, policy=TRIAL) as here:
        await decided(here)
        published.publish(folder(here), breaks(), {})
        await Follower(here.serving).step()
        assert here.serving.deciders.trial is None
        assert metric(here, "bestserve_policy_refused_total 1.0")
        assert metric(here, "bestserve_policy_fallback_total 0.0")


async def test_a_sound_one_is_tried_in_turns_and_stands(tmp_path):
    """The Records of each window say whose turn it was; afterwards it decides alone."""
    clock = Clock()
    async with world(tmp_path, policy=TRIAL) as here:
        here.serving.wall = here.serving.deciders.wall = clock
        version = published.publish(folder(here), sound(), {}, wall=clock)
        name = f"actor-{version[-8:]}"
        await in_turns(here, clock, 8)
        assert here.serving.deciders.state()["trial"]["policy"] == name
        assert metric(here, f'bestserve_policy_canary{{version="{name}"}} 1.0')
        by_window = {}
        for record in here.serving.recent:
            by_window.setdefault(int(record.wall // 30), set()).add(record.decision.policy)
        assert by_window == {w: {name if is_new(version, w) else "deadline-greedy"} for w in by_window}
        await in_turns(here, clock, 4)
        assert here.serving.deciders.trial is None
        assert metric(here, f'bestserve_policy_canary{{version="{name}"}} 0.0')
        assert await decided(here) == name
        assert [line["did"] for line in published.history(folder(here))] == ["publish", "promote"]
        assert not list(folder(here).glob("trials/*"))


async def test_what_a_version_believes_of_backends_is_believed_in_its_turns(tmp_path):
    """And valued alike in both, so that two measures of one answer do not tell them apart."""
    clock = Clock()
    async with world(tmp_path, policy=TRIAL.replace("deadline-greedy", "static:a")) as here:
        here.serving.wall = here.serving.deciders.wall = clock
        version = published.publish(folder(here), doubts(), {}, wall=clock)
        await in_turns(here, clock, 8)
        finding = here.serving.deciders.finding
        believed = {}
        for record in here.serving.recent:
            quality = record.view.backends[0].profile.quality["chat"]
            believed.setdefault(is_new(version, int(record.wall // 30)), set()).add(quality)
        assert believed == {False: {0.5}, True: {0.25}}
        assert (finding.old, finding.new) == (0.25, 0.5)  # the new one goes to `b`


async def test_poison_is_rolled_back_by_itself(tmp_path):
    """After two pairs of windows, with the reason in the history and the metrics."""
    clock = Clock()
    async with world(tmp_path, policy=TRIAL) as here:
        here.serving.wall = here.serving.deciders.wall = clock
        version = published.publish(folder(here), sheds(), {}, wall=clock)
        await in_turns(here, clock, 8)
        assert published.current(folder(here)).version is None
        (found,) = published.listed(folder(here))
        assert found.state == "rolled back"
        assert found.why.startswith("reward: mean reward")
        assert "in 2 pairs" in found.why
        assert metric(here, 'bestserve_policy_rollbacks_total{reason="reward"} 1.0')
        assert await decided(here) == "deadline-greedy"
        assert version not in str(here.serving.deciders.state()["trial"])


async def test_poison_goes_even_where_that_cannot_be_written_down(tmp_path, monkeypatch):
    """In this process alone, and a metric says that the directory fails."""
    clock = Clock()
    async with world(tmp_path, policy=TRIAL) as here:
        here.serving.wall = here.serving.deciders.wall = clock
        published.publish(folder(here), sheds(), {}, wall=clock)

        def full(*_: object, **__: object) -> bool:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(published, "withdraw", full)
        await in_turns(here, clock, 8)
        assert published.current(folder(here)).trial
        assert here.serving.deciders.trial is None
        assert metric(here, "bestserve_policy_dir_failing 1.0")
        assert await decided(here) == "deadline-greedy"


async def test_requests_unlike_its_training_end_a_trial(tmp_path):
    """The inputs are named."""
    clock = Clock()
    async with world(tmp_path, policy=TRIAL) as here:
        here.serving.wall = here.serving.deciders.wall = clock
        for _ in range(64):
            await decided(here)
        published.publish(folder(here), narrow(), {}, wall=clock)
        await in_turns(here, clock, 3)
        (found,) = published.listed(folder(here))
        assert found.why == "range: 100% of the latest requests are unlike what it was trained on, by backends"
        assert metric(here, 'bestserve_policy_rollbacks_total{reason="range"} 1.0')


async def test_what_others_have_seen_counts(tmp_path):
    """A process that had no request knows what became of the trial elsewhere; a file that is damaged is passed over."""
    clock = Clock()
    async with world(tmp_path, policy=TRIAL) as here:
        here.serving.wall = here.serving.deciders.wall = clock
        version = published.publish(folder(here), sheds(), {}, wall=clock)
        trials = folder(here) / "trials" / version
        trials.mkdir(parents=True)
        first = int(clock.now // 30) + 1
        (trials / "else-1-00.json").write_text(
            str({str(w): [10.0 * (not is_new(version, w)), 20.0, 20] for w in range(first, first + 6)}).replace("'", '"')
        )
        (trials / "else-2-00.json").write_text("[")
        follower = Follower(here.serving)
        clock.now += 10.0
        for _ in range(10):
            clock.now += 30.0
            await follower.step()
        assert published.listed(folder(here))[0].state == "rolled back"


async def test_a_directory_that_is_none_changes_nothing(tmp_path, caplog):
    """A metric says so, and the log once."""
    async with world(tmp_path, policy=NO_TRIAL) as here:
        folder(here).write_text("a file")
        follower = Follower(here.serving)
        for _ in range(2):
            await follower.step()
        assert await decided(here) == "deadline-greedy"
        assert metric(here, "bestserve_policy_dir_failing 1.0")
        assert caplog.text.count("cannot be read") == 1
        folder(here).unlink()
        await follower.step()
        assert metric(here, "bestserve_policy_dir_failing 0.0")
