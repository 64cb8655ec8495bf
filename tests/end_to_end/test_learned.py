"""A learned policy that serves: it decides, its name stands in answers, and one that cannot be used takes nobody's answer away."""

import numpy as np
import pytest

from bestserve.policy.checkpoint import Checkpoint, to_bytes
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught
from bestserve.proxy import checkpoints
from tests.policies_by_hand import breaks

from .world import chat, world

pytestmark = pytest.mark.anyio

RANGE = np.zeros(N_ROW + N_CONTEXT)
SOUND = Checkpoint(untaught(), (0.05, 0.7, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {})


async def test_a_checkpoint_decides(tmp_path):
    """Its version is in the answer's header, in the Record and in the metrics."""
    (tmp_path / "p.ckpt").write_bytes(to_bytes(SOUND))
    async with world(tmp_path, policy="deadline-greedy, checkpoint: p.ckpt") as here:
        client = await (await here.ask(chat())).head()
        await client.body()
        await here.settled()
        name = here.serving.chooser.name
        assert name.startswith("actor-")
        assert client.headers["x-bestserve-policy"] == name
        assert here.serving.recent[-1].decision.policy == name
        assert f'bestserve_policy_info{{version="{name}"}} 1.0' in here.serving.exposition().decode()


async def test_the_one_that_ships_decides_where_its_word_stands(tmp_path):
    """As the default does."""
    async with world(tmp_path, policy="deadline-greedy, checkpoint: pretrained") as here:
        client = await (await here.ask(chat())).head()
        await client.body()
        assert client.headers["x-bestserve-policy"] == checkpoints.pretrained().name


@pytest.mark.parametrize(
    "data",
    [
        b"not a checkpoint",
        to_bytes(Checkpoint(untaught()._replace(b1=np.full(48, np.nan)), (0.05, 0.7, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {})),
        None,
    ],
    ids=["junk", "not a number", "not there"],
)
async def test_one_that_cannot_be_used_is_replaced_and_counted(tmp_path, data):
    """The fallback decides, a metric says so, and nothing fails."""
    if data is not None:
        (tmp_path / "p.ckpt").write_bytes(data)
    async with world(tmp_path, policy="bid-price, checkpoint: p.ckpt") as here:
        assert "choices" in await (await here.ask(chat())).answer()
        assert here.serving.chooser.name == "bid-price"
        assert "bestserve_policy_refused_total 1.0" in here.serving.exposition().decode()


async def test_one_that_breaks_while_it_decides_is_replaced_for_that_request(tmp_path):
    """Finite weights whose products are not: the fallback decides each time, and each time is counted."""
    (tmp_path / "p.ckpt").write_bytes(breaks())
    async with world(tmp_path, policy="deadline-greedy, checkpoint: p.ckpt") as here:
        for _ in range(2):
            assert "choices" in await (await here.ask(chat())).answer()
        assert "bestserve_policy_fallback_total 2.0" in here.serving.exposition().decode()
