"""A judge scores a sample of answers: through the real LiteLLM, beside traffic and never before it, within a cap, keeping no text."""

import asyncio

import orjson
import pytest

from bestserve.proxy.segments import files, lines
from bestserve.proxy.signals import joined
from tests.with_litellm import WITH_LITELLM

from .world import Backend, World, answer, chat, completion, nothing, say, stream, world

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240), *WITH_LITELLM]

SECRET = "magpie-7d1c"


def config(judge: Backend, terms: str = "spend: {usd_per_hour: 1}", *, per_minute: int = 1000) -> str:
    base = f"http://127.0.0.1:{judge.port}/v1"
    price = "usd_per_million_input: 10, usd_per_million_output: 100"
    fixed = f"model: openai/judge, sample: 1, per_minute: {per_minute}, api_key: sk-judge, litellm: {{api_base: '{base}'}}"
    return f"replay: {{dir: replay, fsync_ms: 10}}\njudge: {{{fixed}, {price}, {terms}}}\n"


def verdict(text: str):
    """A judge that says this."""

    async def script(got, writer) -> None:
        writer.write(answer(orjson.dumps(completion(text))))

    return script


async def judged(here: World, result: str, n: int = 1) -> None:
    """Until so many came to this result."""
    async with asyncio.timeout(60):
        while f'bestserve_judge_total{{result="{result}"}} {n}.0' not in here.serving.exposition().decode():
            await asyncio.sleep(0.02)


@pytest.fixture
async def judge():
    backend = Backend("judge")
    await backend.start()
    yield backend
    await backend.stop()


async def test_scores_come_home_and_no_text_is_kept(tmp_path, judge, caplog):
    """Of a whole answer and of a stream; what the judge is shown is nowhere else; what it cost is counted."""
    judge.script = verdict('{"score": 7}')
    async with world(tmp_path, more=config(judge)) as here:
        here.backends["a"].script = say(f"four {SECRET}")
        await (await here.ask(chat(f"what is 2 + 2? {SECRET}"))).answer()
        here.backends["a"].script = stream("fo", "ur")
        await (await (await here.ask(chat("and 1 + 3?", stream=True))).head()).body()
        await judged(here, "scored", 2)
        text = here.serving.exposition().decode()
        assert f"bestserve_judge_usd_total {2 * (11 * 10e-6 + 3 * 100e-6)}" in text
    shown = [got.json()["messages"][0]["content"] for got in judge.got]
    assert [got.headers["authorization"] for got in judge.got] == ["Bearer sk-judge"] * 2
    assert f"what is 2 + 2? {SECRET}" in shown[0]
    assert f"four {SECRET}" in shown[0]
    assert "and 1 + 3?" in shown[1]
    assert "four" in shown[1]
    found = list(joined(files([tmp_path / "replay"]), pytest.fail))
    assert [(each.signals.judged, each.signals.score) for each in found] == [(0.7, None)] * 2
    written = b"".join(line for path in files([tmp_path / "replay"]) for line in lines(path))
    assert SECRET.encode() not in written
    assert SECRET not in caplog.text
    assert SECRET not in text


async def test_traffic_never_waits_for_a_judge(tmp_path, judge):
    """One that never answers holds nobody up; what it has no time for is passed over, and memory is bounded."""
    judge.script = nothing
    async with world(tmp_path, more=config(judge)) as here:
        async with asyncio.timeout(20):
            for _ in range(80):
                await (await here.ask(chat())).answer()
        await judged(here, "passed_over", 80 - 64 - 1)
        assert len(here.serving.judge._waiting) == 64


async def test_what_it_may_cost_and_how_often_it_is_asked_is_bounded(tmp_path, judge):
    """Beyond the cap nobody is asked; a word that is no score is paid and not kept."""
    judge.script = verdict("no idea")
    async with world(tmp_path, more=config(judge, "spend: {usd_per_day: 0.06}", per_minute=3)) as here:  # of which 0.04 are set aside
        for _ in range(5):
            await (await here.ask(chat())).answer()
            await asyncio.sleep(0.01)
        await judged(here, "no_score", 3)
        await judged(here, "passed_over", 2)
    assert len(judge.got) == 3
    async with world(tmp_path, more=config(judge, "spend: {usd_per_day: 0.03}")) as here:
        await (await here.ask(chat())).answer()
        await judged(here, "over_budget")
    assert len(judge.got) == 3
    assert {each.signals.judged for each in joined(files([tmp_path / "replay"]), pytest.fail)} == {None}


async def test_without_one_nothing_is_kept_for_it(tmp_path):
    """Which is the default."""
    async with world(tmp_path, more="replay: {dir: replay}\n") as here:
        await (await here.ask(chat())).answer()
        assert not here.serving.judge.wants()
        assert "bestserve_judge_total{" not in here.serving.exposition().decode()
