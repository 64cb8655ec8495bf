"""What is published, as far as it can be used: by a live process, and by `bestserve check`."""

from dataclasses import replace

import pytest

from bestserve.policy.checkpoint import BadCheckpoint
from bestserve.proxy import published, typical
from bestserve.proxy.check import _would_do
from bestserve.proxy.config import Config, parse
from bestserve.proxy.takeup import NOTHING, mark, read, take
from tests.policies_by_hand import breaks, sound


def config(folder, policy: str = "checkpoint: published, fallback: least-loaded") -> Config:
    backend = "{name: a, url: 'http://h', model: m, profile: qwen3-1.7b-h100}"
    return parse(f"backends: [{backend}]\npolicy: {{{policy}}}", {}, source=f"{folder}/c.yaml")


def test_a_mark_changes_with_every_pointer(tmp_path):
    """Also with two within one tick of the clock, since each is a file of its own."""
    marks = [mark(tmp_path)]
    for seed in range(3):
        published.publish(tmp_path, sound(seed), {})
        marks.append(mark(tmp_path))
    assert marks[0] is None
    assert len(set(marks)) == 4


def test_what_stands_and_what_is_tried_are_read(tmp_path):
    """Each by its own version; what cannot be stays as it was before."""
    samples = [typical.observation(config(tmp_path))]
    assert take(tmp_path, samples) == NOTHING
    first = published.publish(tmp_path, sound(1), {})
    published.promote(tmp_path, first, "")
    second = published.publish(tmp_path, sound(2), {})
    taken = take(tmp_path, samples)
    assert (taken.standing.about, taken.challenger.about) == ({"seed": 1}, {"seed": 2})
    published.promote(tmp_path, second, "")
    (tmp_path / f"{second}.ckpt").unlink()
    after = take(tmp_path, samples, taken)
    assert (after.standing, after.challenger, len(after.refusals)) == (taken.standing, None, 1)
    (tmp_path / "current").write_text("[]")
    assert take(tmp_path, samples, after) == replace(after, refusals=take(tmp_path, samples, after).refusals)


def test_one_whose_answers_are_no_probabilities_is_refused(tmp_path):
    """With its file."""
    version = published.publish(tmp_path, breaks(), {})
    with pytest.raises(BadCheckpoint, match=rf"{version}\.ckpt: actor-.* for a sample request"):
        read(tmp_path, version, [typical.observation(config(tmp_path))])


def test_check_says_who_would_decide(tmp_path):
    """What is published, unless the config says none; and why it would not, where it cannot be used."""
    assert _would_do(config(tmp_path))[0]["policy"] == "least-loaded"
    version = published.publish(tmp_path / "policies", sound(), {})
    assert _would_do(config(tmp_path))[0]["policy"] == "least-loaded"  # it is on trial
    published.promote(tmp_path / "policies", version, "")
    assert _would_do(config(tmp_path))[0]["policy"] == f"actor-{version[-8:]}"
    assert _would_do(config(tmp_path, "checkpoint: none, fallback: random"))[0]["policy"] == "random"
    path = tmp_path / "policies" / f"{version}.ckpt"
    path.write_bytes(b"junk")
    plan, refusal = _would_do(config(tmp_path))
    assert (plan["policy"], str(refusal).startswith(f"{path}: ")) == ("least-loaded", True)
