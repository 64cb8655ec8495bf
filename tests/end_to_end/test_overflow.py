"""Answers that are bought: through the real LiteLLM, from a provider on this machine, by the same walk as any other backend."""

import asyncio
import contextlib
import gc
import logging
import re

import openai
import orjson
import pytest

from bestserve.policy.record import to_bytes
from tests.with_litellm import WITH_LITELLM

from .world import Backend, World, answer, chat, flood, hang_up, nothing, stream, world

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240), *WITH_LITELLM]

CANARY = "sk-canary-7f3a9b"
PRICED = "usd_per_million_input: 10, usd_per_million_output: 100"
PAID = 11 * 10e-6 + 3 * 100e-6
"""Dollars for what a scripted backend says that it counted: 11 tokens in, 3 out."""


def paid(backend: Backend, terms: str = PRICED) -> str:
    """A line of the config for a provider that is a scripted backend."""
    base = f"http://127.0.0.1:{backend.port}/v1"
    return f"engine: litellm, model: openai/gpt-x, api_key: {CANARY}, litellm: {{api_base: '{base}'}}, {terms}"


@contextlib.asynccontextmanager
async def bought(folder, terms: str = PRICED, **how: str):
    """A world whose b is a provider that everything is sent to."""
    async with world(folder, rows={"b": lambda b: paid(b, terms)}, policy="static:b", **how) as here:
        yield here


def metric(here: World, name: str) -> float:
    """The sum of a metric over its labels."""
    text = here.serving.exposition().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)", text, re.MULTILINE))


async def test_it_answers_and_streams(tmp_path):
    """In OpenAI's shape, with nothing of LiteLLM's own; the key goes to the provider, the client's does not."""
    async with bought(tmp_path) as here:
        client = await here.ask(chat(), authorization="Bearer sk-client")
        said = await client.answer()
        assert (client.status, client.headers["x-bestserve-backend"]) == (200, "b")
        assert said["choices"] == [
            {"index": 0, "logprobs": None, "finish_reason": "stop", "message": {"content": "Hello from b", "role": "assistant"}}
        ]
        assert said["usage"]["completion_tokens"] == 3
        got = here.backends["b"].got[-1]
        assert (got.headers["authorization"], got.path, got.json()["model"]) == (f"Bearer {CANARY}", "/v1/chat/completions", "gpt-x")

        client = await (await here.ask(chat(stream=True))).head()
        events = [e for e in (await client.body()).split(b"\n\n") if e]
        assert client.headers["content-type"].startswith("text/event-stream")
        assert events[-1] == b"data: [DONE]"
        chunks = [orjson.loads(e[6:]) for e in events[:-1]]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "Hellofromb"
        assert all("usage" not in c and set(c) <= {"id", "object", "created", "model", "choices"} for c in chunks)
        await here.settled()
        assert here.endings == [("b", "done"), ("b", "done")]


async def test_the_sdk_cannot_tell(tmp_path):
    """Usage where it was asked for, tools, completions and embeddings."""

    async def script(got, writer) -> None:
        if got.path.endswith("embeddings"):
            rows = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
            said = {"object": "list", "data": rows, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
        elif got.path.endswith("chat/completions"):
            call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            said = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        else:
            choice = {"index": 0, "text": "there was", "finish_reason": "stop"}
            said = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        writer.write(answer(orjson.dumps(said)))

    hi = [{"role": "user", "content": "hi"}]
    options = {"include_usage": True}
    async with (
        bought(tmp_path, f"{PRICED}, capabilities: [tools, json, embeddings]") as here,
        openai.AsyncOpenAI(base_url=here.base_url, api_key="x", max_retries=0) as sdk,
    ):
        answered = await sdk.chat.completions.create(model="b", messages=hi, stream=True, stream_options=options)
        assert [c.usage.completion_tokens async for c in answered if c.usage] == [3]

        here.backends["b"].script = script
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        said = await sdk.chat.completions.create(model="b", messages=hi, tools=tools)
        assert said.choices[0].message.tool_calls[0].function.arguments == '{"a":1}'
        assert here.backends["b"].got[-1].json()["tools"] == tools
        assert (await sdk.completions.create(model="b", prompt="once")).choices[0].text == "there was"
        assert (await sdk.embeddings.create(model="b", input="hi")).data[0].embedding == [0.5, 1.0]


async def test_an_answer_may_repeat_itself(tmp_path):
    """LiteLLM by itself breaks off at a hundred pieces that are the same."""
    async with bought(tmp_path) as here:
        here.backends["b"].script = stream(*["-"] * 300)
        client = await (await here.ask(chat(stream=True))).head()
        assert (await client.body()).count(b'"content":"-"') == 300
        await here.settled()
        assert here.endings == [("b", "done")]


async def test_a_client_who_leaves_stops_the_upstream_call(tmp_path):
    """In the middle of a stream, before its first token, and of an answer in one piece."""
    async with bought(tmp_path) as here:
        b = here.backends["b"]
        for script, body, read in (
            (stream("one", "two", then=nothing), chat(stream=True), True),
            (nothing, chat(stream=True), False),
            (nothing, chat(), False),
        ):
            b.script = script
            b.arrived.clear()
            client = await here.ask(body)
            await b.arrived.wait()
            if read:
                await (await client.head()).some()
            client.leave()
            async with asyncio.timeout(5):
                await b.got[-1].hung_up.wait()
        await here.settled()
        assert [ending for _, ending in here.endings] == ["abandoned"] * 3


async def test_two_hundred_who_leave_at_once_leave_nothing_behind(tmp_path):
    """No connection, no task, no money held, nothing in flight."""
    async with bought(tmp_path, f"{PRICED}, spend: {{usd_per_hour: 1000}}") as here:
        b = here.backends["b"]
        await (await here.ask(chat())).answer()  # whatever is made once is made
        await here.settled()
        tasks = len(asyncio.all_tasks())
        b.script = stream("one", "two", then=nothing)
        clients = await asyncio.gather(*(here.ask(chat(stream=True)) for _ in range(200)))

        async def leave_after_a_word(client) -> None:
            async with asyncio.timeout(120):
                await client.reader.readuntil(b"\r\n\r\n")
                await client.reader.readline()
            client.leave()

        await asyncio.gather(*map(leave_after_a_word, clients))

        async with asyncio.timeout(60):
            for got in b.got[1:]:
                await got.hung_up.wait()
            while any(here.serving.fleet.in_flight().values()) or any(u.n_open for u in here.serving.upstreams.values()):
                await asyncio.sleep(0.01)
        gc.collect()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > tasks + 5:
                await asyncio.sleep(0.05)
        assert here.endings[1:] == [("b", "abandoned")] * 200
        assert max(map(max, here.serving.fleet.books())) == pytest.approx(0, abs=1e-6)
        ((_, _, spent, _),) = here.serving.gates.spent()
        assert spent == pytest.approx(sum(r.outcome.usd for r in here.serving.recent))


async def test_a_slow_client_stops_the_provider_and_not_our_memory(tmp_path):
    """What he does not read is not read from the provider."""
    async with bought(tmp_path) as here:
        here.backends["b"].script = flood
        client = await here.ask(chat(stream=True))
        await client.head()
        client.reader._transport.pause_reading()
        async with asyncio.timeout(30):  # until all that lies between is full
            before = None
            while before != (before := here.serving.fleet.books()):
                await asyncio.sleep(0.7)
        client.leave()
        async with asyncio.timeout(5):
            await here.backends["b"].got[-1].hung_up.wait()


# --- when a provider says no ---


def no(status: int, message: str, code: str | None = None, headers: str = ""):
    """Say no as OpenAI does."""

    async def script(got, writer) -> None:
        said = answer(orjson.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}}), status=status)
        writer.write(said.replace(b"\r\n\r\n", b"\r\n" + headers.encode() + b"\r\n\r\n", 1) if headers else said)

    return script


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (no(401, f"Incorrect API key provided: {CANARY}.", "invalid_api_key"), "unauthorized"),
        (no(404, "The model `gpt-x` does not exist", "model_not_found"), "no_such_path"),
        (no(429, "Rate limit reached", "rate_limit_exceeded"), "rate_limited"),
        (no(429, "You exceeded your current quota (insufficient_quota)", "insufficient_quota"), "quota_spent"),
        (no(400, "This model's maximum context length is 5 tokens. However, it has 9 tokens.", "context_length_exceeded"),
         "context"),
        (no(400, "Unsupported parameter: 'seed'"), "unfit"),
        (no(500, "The server had an error"), "status_500"),
        (no(503, "Overloaded"), "status_503"),
        (hang_up, None),
    ],
    ids=["bad-key", "unknown-model", "rate-limit", "quota", "context", "bad-request", "error", "overloaded", "hangs-up"],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_who_says_no_is_replaced(tmp_path, script, reason, streamed):
    """The client gets another's answer, and never sees why; the Record says it in a word."""
    async with bought(tmp_path) as here:
        here.backends["b"].script = script
        client = await (await here.ask(chat(stream=streamed, seed=1))).head()
        assert client.headers["x-bestserve-backend"] == "a"
        assert (b"from" if streamed else b"Hello from a") in await client.body()
        await here.settled()
        assert here.endings == [("b", "refused"), ("a", "done")]
        first = here.serving.recent[0].outcome
        assert reason is None or first.reason == reason
        assert first.usd == 0.0
        assert len(here.backends["b"].got) == 1, "LiteLLM tried again by itself"


async def test_a_provider_that_hangs_is_replaced(tmp_path):
    """Past the time to the first token."""
    async with bought(tmp_path, more="timeouts: {first_token_ms: 300}") as here:
        here.backends["b"].script = nothing
        client = await (await here.ask(chat(stream=True))).head()
        assert client.headers["x-bestserve-backend"] == "a"
        assert here.serving.recent[0].outcome.reason == "timeout"


async def test_a_rate_limit_masks_for_as_long_as_it_says(tmp_path):
    """The next request is not even sent."""
    async with bought(tmp_path) as here:
        here.backends["b"].script = no(429, "Rate limit reached", "rate_limit_exceeded", "retry-after: 30")
        for _ in range(3):
            assert (await (await here.ask(chat())).head()).headers["x-bestserve-backend"] == "a"
        assert len(here.backends["b"].got) == 1


async def test_a_bad_key_opens_the_circuit(tmp_path):
    """After a few, as for any backend that fails."""
    async with bought(tmp_path) as here:
        here.backends["b"].script = no(401, "Incorrect API key provided", "invalid_api_key")
        for _ in range(5):
            await (await here.ask(chat())).answer()
        assert len(here.backends["b"].got) == 3


async def test_what_no_provider_takes_is_told_where_nobody_else_is_left(tmp_path):
    """A request for it alone gets its reason, in OpenAI's shape."""
    async with bought(tmp_path) as here:
        client = await here.ask(chat(model="b", top_k=5))
        error = (await client.answer())["error"]
        assert (client.status, error["param"], error["type"]) == (400, "top_k", "invalid_request_error")
        assert here.backends["b"].got == []

        here.backends["b"].script = no(400, "temperature is too high")
        client = await here.ask(chat(model="b", temperature=9))
        assert (client.status, (await client.answer())["error"]["message"]) != (200, "")
        assert "temperature is too high" in (await (await here.ask(chat(model="b", temperature=9))).answer())["error"]["message"]


async def test_a_stream_that_breaks_ends_honestly(tmp_path):
    """With an error event in OpenAI's shape and no [DONE]."""
    async with bought(tmp_path) as here:
        here.backends["b"].script = stream("one", "two", then=hang_up)
        client = await (await here.ask(chat(stream=True))).head()
        body = await client.body()
        assert b'"code":"backend_failed"' in body
        assert b"[DONE]" not in body
        await here.settled()
        assert here.endings == [("b", "broke")]
        assert here.serving.recent[0].outcome.usd > 0


async def test_the_key_is_nowhere(tmp_path, caplog, capfd):
    """Not in a Record, a metric, an answer, a log or on the terminal, whatever goes wrong; nor is the prompt."""
    prompt = "canary-prompt-51e0"
    told = b""
    with caplog.at_level(logging.DEBUG):
        async with bought(tmp_path) as here:
            for script in (
                no(401, f"Incorrect API key provided: {CANARY}", "invalid_api_key"),
                no(400, f"bad {CANARY}"),
                no(500, CANARY),
                hang_up,
                stream("x", then=hang_up),
            ):
                here.serving.fleet._kept.circuits.opened[1] = False
                here.backends["b"].script = script
                told += await (await (await here.ask(chat(prompt, model="b", stream=True))).head()).body()
            told += b"".join(to_bytes(record) for record in here.serving.recent) + here.serving.exposition()
            told += orjson.dumps(here.serving.describe()) + repr(here.serving.config).encode()
    printed = capfd.readouterr()
    told += (caplog.text + printed.out + printed.err).encode()
    assert CANARY.encode() not in told
    assert prompt.encode() not in told


# --- money ---


async def test_what_it_costs_is_in_the_record_the_metric_and_the_book(tmp_path):
    """And they are the same number, whole, streamed and left in the middle."""
    async with bought(tmp_path, f"{PRICED}, spend: {{usd_per_hour: 5}}") as here:
        for body in (chat(), chat(stream=True)):
            await (await (await here.ask(body)).head()).body()
        here.backends["b"].script = stream("one", "two", then=nothing)
        client = await (await here.ask(chat(stream=True))).head()
        await client.some()
        client.leave()
        await here.settled()
        await asyncio.sleep(0.05)
        costs = [record.outcome.usd for record in here.serving.recent]
        assert costs[:2] == pytest.approx([PAID, 11 * 10e-6 + 3 * 100e-6])
        assert 0 < costs[2] < PAID
        assert metric(here, "bestserve_spend_usd_total") == pytest.approx(sum(costs))
        assert metric(here, "bestserve_spend_window_usd") == pytest.approx(sum(costs))
        assert metric(here, "bestserve_spend_cap_usd") == 5


async def test_the_cap_holds_under_concurrency(tmp_path):
    """Fifty at once, money for ten: ten are bought, forty go elsewhere, and no more is spent than the cap."""
    worst = 2 * 6 * 10e-6 + 100 * 100e-6  # of a prompt of some 6 tokens and a ceiling of 100
    async with bought(tmp_path, f"{PRICED}, spend: {{usd_per_hour: {10.5 * worst:.6f}}}") as here:
        go = asyncio.Event()

        async def script(got, writer) -> None:
            await go.wait()
            await stream("x")(got, writer)

        here.backends["b"].script = script
        clients = await asyncio.gather(*(here.ask(chat(max_tokens=100, stream=True)) for _ in range(50)))
        async with asyncio.timeout(60):
            while len(here.serving.recent) < 40:
                await asyncio.sleep(0.01)
        go.set()
        for client in clients:
            await (await client.head()).body()
        await here.settled()
        by = [client.headers["x-bestserve-backend"] for client in clients]
        assert (by.count("b"), by.count("a")) == (10, 40)
        assert metric(here, "bestserve_spend_window_usd") <= metric(here, "bestserve_spend_cap_usd")


async def test_a_spent_cap_masks_and_a_restart_does_not_lift_it(tmp_path):
    """The next process finds the book."""
    cap = f"{PRICED}, answer_tokens: 10, spend: {{usd_per_day: 0.0014}}"
    for expected in (["b", "a"], ["a"]):
        async with bought(tmp_path, cap) as here:
            by = [(await (await here.ask(chat())).head()).headers["x-bestserve-backend"] for _ in expected]
            assert by == expected


# --- who may overflow ---


async def test_a_request_may_refuse_to_be_bought(tmp_path):
    """By a header; where only bought answers are left, it is told so."""
    async with bought(tmp_path) as here:
        assert (await (await here.ask(chat())).head()).headers["x-bestserve-backend"] == "b"
        client = await (await here.ask(chat(), x_bestserve_overflow="never")).head()
        assert client.headers["x-bestserve-backend"] == "a"
        client = await here.ask(chat(model="b"), x_bestserve_overflow="never")
        assert (await client.answer())["error"]["code"] == "insufficient_permissions"
        client = await here.ask(chat(), x_bestserve_overflow="perhaps")
        assert ((await client.answer())["error"]["param"], client.status) == ("x-bestserve-overflow", 400)


async def test_a_tier_may_forbid_it(tmp_path):
    """For whoever is served at it."""
    async with bought(tmp_path, more="slo: {tiers: {flex: {overflow: never}}}") as here:
        assert (await (await here.ask(chat())).head()).headers["x-bestserve-backend"] == "b"
        assert (await (await here.ask(chat(service_tier="flex"))).head()).headers["x-bestserve-backend"] == "a"
        client = await here.ask(chat(model="b", service_tier="flex"))
        assert (await client.answer())["error"]["code"] == "insufficient_permissions"


async def test_the_policy_buys_what_is_worth_its_price(tmp_path):
    """At a cent for an answer on time it buys a better one for a tenth of a cent; at a twentieth of a cent it does not."""
    for usd_weight, by in ((100, "b"), (2000, "a")):
        folder = tmp_path / str(usd_weight)
        folder.mkdir()
        async with world(
            folder,
            rows={"b": lambda b: paid(b, "usd_per_million_input: 1, usd_per_million_output: 4, quality: 0.9")},
            policy=f"deadline-greedy, usd_weight: {usd_weight}",
            more="slo: {ttft_ms: 5000}",
        ) as here:
            assert (await (await here.ask(chat())).head()).headers["x-bestserve-backend"] == by
            assert here.serving.recent[0].ask.usd_weight == usd_weight


async def test_who_names_a_price_pays_it(tmp_path):
    """A request for the provider by name is not weighed against its price."""
    async with world(
        tmp_path, rows={"b": lambda b: paid(b, PRICED)}, policy="bid-price, usd_weight: 1000000", more="slo: {ttft_ms: 5000}"
    ) as here:
        assert (await (await here.ask(chat(model="b"))).head()).headers["x-bestserve-backend"] == "b"
