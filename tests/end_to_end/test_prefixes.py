"""A conversation stays where its prefix is, by its price: while loads are equal, and no longer."""

import asyncio

import orjson
import pytest

from bestserve.policy.encode import observe
from bestserve.policy.record import from_bytes, to_bytes

from .world import World, answer, completion, refuse, world

pytestmark = pytest.mark.anyio

CROWD = {"loads": [{"num_running_reqs": 64, "num_waiting_reqs": 300, "num_used_tokens": 200_000}]}


async def say(here: World, talk: list[dict], text: str) -> str:
    """One more turn of a conversation; who answered it."""
    talk.append({"role": "user", "content": text})
    client = await (await here.ask({"model": "auto", "messages": talk})).head()
    body = await client.answer()
    talk.append({"role": "assistant", "content": body["choices"][0]["message"]["content"]})
    await here.settled()
    return client.headers["x-bestserve-backend"]


def cached(here: World) -> dict[str, float]:
    """What was expected when the latest request was decided."""
    record = here.serving.recent[-1]
    return dict(zip((b.name for b in record.view.backends), record.decision.observation.seen.cached, strict=True))


@pytest.mark.parametrize("policy", ["deadline-greedy", "weighted-score"])
async def test_a_conversation_stays_while_loads_are_equal_and_leaves_a_crowd(tmp_path, policy):
    """Of two equal backends the one that has read the conversation, until it is crowded; Records encode again to the same digest."""
    async with world(tmp_path, policy=policy) as here:
        for number in range(6):
            talk: list[dict] = []
            first = await say(here, talk, f"{number} " + "tell me more " * 300)
            asked = [await say(here, talk, "and then? " * 40) for _ in range(6)]
            assert set(asked) == {first}
            assert cached(here)[first] > 900
        here.backends[first].loads = CROWD
        async with asyncio.timeout(5):
            while here.serving.fleet.load_of(first)[0].waiting != 300:
                await asyncio.sleep(0.01)
        assert await say(here, talk, "still there?") != first
        assert cached(here)[first] > 900
        for record in here.serving.recent:
            line = from_bytes(to_bytes(record))
            assert line.seen is not None
            assert observe(line.seen).digest() == line.decision["digest"]


async def test_who_goes_down_has_forgotten(tmp_path):
    """A backend that comes back was started anew."""
    async with world(tmp_path) as here:
        talk: list[dict] = []
        await say(here, talk, "hello " * 100)
        await say(here, talk, "hello again")
        assert cached(here)["a"] > 100
        for ready in (False, True):
            here.backends["a"].is_ready = ready
            async with asyncio.timeout(5):
                while here.serving.backends_up()["a"] is not ready:
                    await asyncio.sleep(0.01)
        await say(here, talk, "and now?")
        assert cached(here) == {"a": 0.0, "b": 0.0}


async def test_a_refusal_teaches_nothing(tmp_path):
    """Who says no has read nothing; who answers instead has."""
    async with world(tmp_path) as here:
        here.backends["a"].script = refuse()
        talk: list[dict] = []
        assert await say(here, talk, "hello " * 100) == "b"
        assert await say(here, talk, "hello again") == "b"
        assert cached(here)["a"] == 0.0
        assert cached(here)["b"] > 100


async def test_what_a_backend_says_that_it_remembered_is_believed(tmp_path):
    """One without a prefix cache says so with every answer, and less and less is expected of it."""

    async def forgetful(got, writer):
        said = completion("ok")
        said["usage"] = {"prompt_tokens": 1000, "completion_tokens": 3, "total_tokens": 1003, "prompt_tokens_details": {"cached_tokens": 0}}
        writer.write(answer(orjson.dumps(said)))

    async with world(tmp_path) as here:
        here.backends["a"].script = forgetful
        talk: list[dict] = []
        await say(here, talk, "hello " * 1500)
        before = None
        for _ in range(12):
            await say(here, talk, "hello again")
            before = before or cached(here)["a"]
        assert cached(here)["a"] < 0.4 * before


@pytest.mark.parametrize("off", ["switch", "bought"])
async def test_where_nobody_remembers_nothing_is_looked_at(tmp_path, off):
    """By the operator's word, and of backends that are paid for."""
    bought = ", usd_per_million_input: 1, usd_per_million_output: 2" if off == "bought" else ""
    async with world(tmp_path, per_backend=bought, policy="static:a" + (", prefixes: false" if off == "switch" else "")) as here:
        talk: list[dict] = []
        for _ in range(3):
            await say(here, talk, "hello " * 100)
        assert cached(here) == {"a": 0.0, "b": 0.0}
        assert not here.serving.prefixes.any_of(("a", "b"))
