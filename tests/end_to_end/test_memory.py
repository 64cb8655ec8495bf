"""What the proxy remembers of its requests: lines of the replay log, and what clients say afterwards."""

import asyncio
from collections import Counter
from hashlib import sha256

import pytest

from bestserve.policy.opinions import weights
from bestserve.proxy.config import parse
from bestserve.proxy.entries import Kept, Said
from bestserve.proxy.errors import Failure
from bestserve.proxy.log_verify import verify
from bestserve.proxy.segments import files
from bestserve.proxy.signals import joined
from bestserve.proxy.weights import shipped
from tests.proxy.log_by_hand import everything

from .world import Client, World, chat, nothing, refuse, say, stream, world

pytestmark = pytest.mark.anyio

A, B = "sk-team-a", "sk-team-b"
KEYS = "keys:\n" + "\n".join(
    f"  - {{name: {name}, sha256: {sha256(token.encode()).hexdigest()}}}" for name, token in (("team-a", A), ("team-b", B))
)
REPLAY = "replay: {dir: replay, fsync_ms: 10}\n"


def key(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def answered(here: World, text: str = "hi", **headers: str) -> str:
    """Ask, read the answer, give the decision's id."""
    client = await (await here.ask(chat(text), **headers)).head()
    assert client.status == 200
    await client.body()
    return client.headers["x-bestserve-decision"]


async def rate(here: World, decision: object, score: object = 1.0, **headers: str) -> Client:
    return await (await here.ask({"decision": decision, "score": score}, "/v1/feedback", **headers)).head()


def read(folder):
    problems = []
    found = list(joined(files([folder / "replay"]), problems.append))
    assert not problems
    return found


async def test_every_attempt_is_a_line(tmp_path):
    """Refused, tried elsewhere, done; each with the name of the key, and the second as a part of the first."""
    async with world(tmp_path, more=KEYS + "\n" + REPLAY) as here:
        here.backends["a"].script = refuse()
        await answered(here, **key(A))
        here.backends["a"].script = say("fine")
        await answered(here, **key(B))

    found = read(tmp_path)
    assert [(e.line.outcome.ending.value, e.kept.attempt, e.kept.around.key) for e in found] == [
        ("refused", 0, "team-a"),
        ("done", 1, "team-a"),
        ("done", 0, "team-b"),
    ]
    assert verify(files([tmp_path / "replay"])).ok


async def test_what_clients_do_is_told(tmp_path):
    """Cut by our budget; left in the middle; asked the same again."""
    async with world(tmp_path, policy="static:a@16", more="budgets: [none, 16]\n" + REPLAY) as here:
        here.backends["a"].script = say("x", finish="length")
        await answered(here, "cut")
        here.backends["a"].script = stream("one", then=nothing)
        client = await (await here.ask(chat("left", stream=True))).head()
        await client.some()
        client.leave()
        await here.settled()
        here.backends["a"].script = say("fine")
        await answered(here, "left")

    cut, left, again = (each.signals for each in read(tmp_path))
    assert (cut.cut, cut.left, cut.retried_s) == (True, False, None)
    assert (left.cut, left.left) == (False, True)
    assert left.retried_s is not None
    assert again.retried_s is None


async def test_a_score_comes_home(tmp_path):
    """The id from the answer's header is enough, also for another process later; the same again is the same."""
    async with world(tmp_path, more=KEYS + "\n" + REPLAY) as here:
        decision = await answered(here, **key(A))
        client = await rate(here, decision, 0.25, **key(A))
        assert client.status == 200
        assert await client.answer() == {"object": "feedback", "decision": decision, "score": 0.25}
    async with world(tmp_path, more=KEYS + "\n" + REPLAY) as here:
        for _ in range(3):
            client = await (await here.ask({"decision": decision, "rating": "up"}, "/v1/feedback", **key(A))).head()
            assert (await client.answer())["score"] == 1.0

    assert [each.signals.score for each in read(tmp_path)] == [1.0]
    assert len([e for e in everything(tmp_path / "replay")[0] if isinstance(e, Said)]) == 2


async def test_nobody_rates_anothers_answer(tmp_path):
    """Another's id, a made-up one and a bare one are all not found; without a key nothing is said at all."""
    async with world(tmp_path, more=KEYS + "\n" + REPLAY) as here:
        decision = await answered(here, **key(A))
        for said in (decision, "f" * 24 + ".0123456789abcdef", decision.partition(".")[0]):
            client = await rate(here, said, **key(B))
            assert client.status == 404
            assert (await client.answer())["error"]["code"] == "decision_not_found"
        assert (await rate(here, decision)).status == 401
        client = await rate(here, decision, "much", **key(A))
        assert client.status == 400
        assert (await client.answer())["error"]["param"] == "score"
        metrics = here.serving.exposition().decode()

    assert 'bestserve_feedback_total{result="decision_not_found"} 3.0' in metrics
    assert [each.signals.score for each in read(tmp_path)] == [None]


async def test_ten_thousand_scores_of_one_key_stay_within_their_bound(tmp_path):
    """Its own decisions get one score each; what is over the rate is refused."""
    async with world(tmp_path, more=KEYS + "\nreplay: {dir: replay, fsync_ms: 10, feedback_per_minute: 20}\n") as here:
        decision, other = await answered(here, **key(A)), await answered(here, **key(B))
        statuses = []
        for i in range(60):
            client = await rate(here, (decision, other)[i % 2], i / 100, **key(A))
            statuses.append(client.status)
            await client.body()

    assert statuses.count(200) == 8
    assert statuses.count(404) == 10
    assert set(statuses) == {200, 400, 404, 429}
    scores = {each.kept.around.key: each.signals.score for each in read(tmp_path)}
    assert scores == {"team-a": 0.14, "team-b": None}


async def test_poisoned_feedback_moves_nothing_beyond_its_bound(tmp_path):
    """Ten thousand scores of one key, for its own answers and for others', numbers that are none: what is learnt moves by its share."""
    async with world(tmp_path, more=KEYS + "\nreplay: {dir: replay, fsync_ms: 10, feedback_per_minute: 1000000}\n") as here:
        honest = [await answered(here, **key(A)) for _ in range(20)]
        bad = [await answered(here, **key(B)) for _ in range(80)]
        for decision in honest:
            assert (await rate(here, decision, 0.8, **key(A))).status == 200
        refused = 0
        for i in range(10_000):
            decision, score = (*bad, *honest)[i % 100], ("0", "NaN", "1e999", "0.0")[i // 100 % 4]
            try:
                here.serving.memory.feedback("team-b", f'{{"decision": "{decision}", "score": {score}}}'.encode())
            except Failure:
                refused += 1
        assert (await rate(here, bad[0], "NaN", **key(B))).status == 400

    assert refused == 10_000 - 80 * 50  # every other one of its own; the same again is the same
    rows = [(each.kept.around.key, each.signals.score) for each in read(tmp_path)]
    assert Counter(rows) == {("team-a", 0.8): 20, ("team-b", 0.0): 80}

    def learnt(rows: list[tuple[str, float]]) -> float:
        keys, scores = zip(*rows, strict=True)
        w = weights(keys, scores, prior=30.0, share=0.2)
        return (30.0 * 0.7 + sum(w * scores)) / (30.0 + sum(w))

    assert abs(learnt(rows) - learnt(rows[:20])) <= 0.2
    assert learnt(rows[:20]) > 0.7


async def test_without_keys_everybody_is_one(tmp_path):
    """Whoever has the id may rate; without a log nothing is taken."""
    async with world(tmp_path, more=REPLAY) as here:
        assert (await rate(here, await answered(here))).status == 200
    async with world(tmp_path) as here:
        client = await rate(here, await answered(here))
        assert client.status == 404
        assert (await client.answer())["error"]["code"] == "feedback_not_taken"


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    """Answers come, the metric says it, and one line does."""
    (tmp_path / "replay").write_text("in the way")
    async with world(tmp_path, more=REPLAY) as here:
        for _ in range(5):
            await answered(here)
        async with asyncio.timeout(5):
            while "bestserve_replay_failing 1.0" not in here.serving.exposition().decode():
                await asyncio.sleep(0.01)
        decision = await answered(here)
        assert (await rate(here, decision)).status == 200
        (tmp_path / "replay").unlink()
    said = [record.message for record in caplog.records if "replay log" in record.message]
    assert len([line for line in said if "cannot be written" in line]) == 1
    assert len([e for e in everything(tmp_path / "replay")[0] if isinstance(e, Kept)]) == 6


async def test_another_directory_is_taken_up_by_a_reload(tmp_path):
    """What was begun in the old one is finished there."""
    async with world(tmp_path, more=REPLAY) as here:
        await answered(here)
        text = (
            f"backends: [{{name: a, url: 'http://127.0.0.1:{here.backends['a'].port}', model: m-a, profile: fast.toml}}]\n"
            "policy: {checkpoint: published, fallback: 'static:a'}\nreplay: {dir: other}\n"
        )
        config = parse(text, {}, source=f"{tmp_path}/bestserve.yaml")
        here.serving.adopt(config)
        here.serving.memory.adopt(config.replay)
        await answered(here)
        async with asyncio.timeout(5):
            while list((tmp_path / "replay").glob("*.ledger")):
                await asyncio.sleep(0.01)

    for name in ("replay", "other"):
        assert len(everything(tmp_path / name)[0]) == 1


async def test_signals_are_kept_where_the_operator_wants_them(tmp_path):
    """Known words by number, a fence, a length; streamed and at once; no text, and nothing of an attempt that failed."""
    fence = "```python f() ```"
    async with world(tmp_path, more=REPLAY + "classify: {learn: true}\n") as here:
        here.backends["a"].script = refuse()
        await answered(here, "translate my secret zyzzyva")
        for backend in here.backends.values():
            backend.script = say(fence)
        await answered(here, "write a function")
        client = await (await here.ask(chat("write a function", stream=True))).head()
        await client.body()

    lines = [e.line for e in read(tmp_path)]
    assert [line.signal is None for line in lines] == [True, False, False, False]
    assert [line.signal["fence"] for line in lines[1:]] == [False, True, True]
    assert "translate" in shipped().words(lines[1].signal["rows"])
    assert lines[2].signal["tokens"] == lines[2].outcome.completion_tokens
    assert all(
        b"zyzzyva" not in path.read_bytes() and b"secret" not in path.read_bytes()
        for path in files([tmp_path / "replay"])
        if path.suffix != ".gz"
    )


async def test_no_signal_is_kept_unasked(tmp_path):
    """The default."""
    async with world(tmp_path, more=REPLAY) as here:
        await answered(here, "write a function")

    assert [e.line.signal for e in read(tmp_path)] == [None]
