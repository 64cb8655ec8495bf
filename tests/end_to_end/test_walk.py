"""What a client gets when all is well, and what a backend gets of it: each through the whole proxy, on real sockets."""

import asyncio
import re
import socket
from collections.abc import Callable
from functools import partial

import numpy as np
import openai
import orjson
import pytest

from bestserve.policy.facts import KNOWN, LONGER, TASKS
from bestserve.proxy import published, serve
from bestserve.proxy.app import build
from bestserve.proxy.board import Board
from bestserve.proxy.config import BadConfig, Config, Problem, parse
from bestserve.proxy.dialects.sglang import LOADS, SGLANG
from bestserve.proxy.errors import Refused
from bestserve.proxy.listen import bind
from bestserve.proxy.probe import probe
from tests.policies_by_hand import sheds

from .world import (
    Backend,
    Client,
    Got,
    World,
    answer,
    chat,
    chunk,
    completion,
    config_of,
    event,
    nothing,
    piece,
    refuse,
    say,
    stream,
    usage_chunk,
    world,
)

pytestmark = pytest.mark.anyio

BUDGETS = "budgets: [none, {tokens: 5, instruction: Answer in at most 3 words.}]\n"
OVER_PROMPT = {
    "object": "error",
    "message": "The input (9031 tokens) is longer than the model's context length (8192 tokens).",
    "code": 400,
}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def get(here: World, path: str, **headers: str) -> tuple[Client, bytes]:
    client = await (await here.ask(b"", path, "GET", **headers)).head()
    return client, await client.body()


def events(body: bytes) -> list[dict | str]:
    """The payloads of a stream."""
    datas = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [data.decode() if data == b"[DONE]" else orjson.loads(data) for data in datas]


def sdk(here: World, **how: object) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(**{"base_url": here.base_url, "api_key": "sk-x", "max_retries": 0, **how})


# --- an answer ---


async def test_a_whole_answer(tmp_path):
    """To the byte what the backend said, under its model's name, with what was decided in the headers."""
    said = orjson.dumps(completion("Hi", model="m-a", tokens=7))

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(said))

    async with world(tmp_path) as here:
        here.backends["a"].script = script
        client = await (await here.ask(chat())).head()
        body = await client.body()

        assert body == said
        assert client.headers["content-type"] == "application/json"
        assert {name: v for name, v in client.headers.items() if name.startswith("x-bestserve")} == {
            "x-bestserve-decision": here.serving.recent[-1].decision.id,
            "x-bestserve-backend": "a",
            "x-bestserve-budget": "none",
            "x-bestserve-task": "chat",
            "x-bestserve-policy": "static:a",
        }
        assert re.fullmatch(r"[0-9a-f]{24}", client.headers["x-request-id"])
        outcome = here.serving.recent[-1].outcome
        assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.finish_reason) == (11, 7, "stop")


async def test_a_second_has_a_price_while_more_is_asked_than_can_be_done_and_none_after(tmp_path):
    """A thousand times what a backend can do gives it a price within a look; half a minute of silence takes it away."""
    async with world(tmp_path) as here:
        await (await (await here.ask(chat())).head()).body()
        serving, fleet = here.serving, here.serving.fleet
        now = serving.clock()
        for k in range(200_000):
            fleet.arrive(now + k * 1e-5)
        serving.clock = lambda: now + 2.0
        serving.reprice()
        dear = fleet.view(now + 2.0).columns.price[0]

        for k in range(1, 121):
            serving.clock = lambda later=now + 2.0 + k / 4: later
            serving.reprice()

        assert dear > 0.0
        assert fleet.view(now + 32.0).columns.price[0] == 0.0
        serving.clock = lambda: now + 32.0


async def test_a_worker_that_only_sheds_tells_its_siblings_how_many_come(tmp_path):
    """It begins nothing that would tell them, and what it refuses is demand all the same."""
    published.promote(tmp_path / "policies", published.publish(tmp_path / "policies", sheds(), {}), "")
    board = Board(2)
    async with world(tmp_path, build=partial(build, board=board, row=1)) as here:
        await (await here.ask(chat())).head()

        here.serving.reprice()

        assert here.endings == [(None, "shed")]
        assert board.rate_of_others(0, here.serving.clock()) > 0.0


@pytest.mark.parametrize("usage_asked", [True, False])
async def test_a_streamed_answer(tmp_path, usage_asked):
    """Event by event; the usage chunk only for whoever asked for it, but known to us either way."""
    options = {"stream_options": {"include_usage": True}} if usage_asked else {}

    async with world(tmp_path) as here:
        here.backends["a"].script = stream("one", "two", "three")
        client = await (await here.ask(chat(stream=True, **options))).head()
        got = events(await client.body())

        assert client.headers["content-type"].startswith("text/event-stream")
        assert client.headers["cache-control"] == "no-cache"
        assert client.headers["x-accel-buffering"] == "no"
        assert client.headers["x-bestserve-backend"] == "a"
        assert [e["choices"][0]["delta"].get("content") for e in got[:5]] == ["", "one", "two", "three", None]
        assert got[5:] == [usage_chunk(3), "[DONE]"] if usage_asked else ["[DONE]"]
        await here.settled()
        outcome = here.serving.recent[-1].outcome
        assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.finish_reason) == (11, 3, "stop")
        assert outcome.ttft_s is not None


@pytest.mark.parametrize("cuts", [1, 7, 100])
async def test_a_stream_in_bits(tmp_path, cuts):
    """Comes out the same, wherever the backend's pieces begin."""
    async with world(tmp_path) as here:
        here.backends["a"].script = stream("one", "two", cuts=cuts)
        client = await (await here.ask(chat(stream=True))).head()

        got = events(await client.body())

        assert [e["choices"][0]["delta"].get("content") for e in got[:-1]] == ["", "one", "two", None]


async def test_tokens_come_as_they_are_made(tmp_path):
    """The first one does not wait for the second."""
    go = asyncio.Event()

    async def rest(got: Got, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(piece(event(chunk("late")) + event("[DONE]")) + b"0\r\n\r\n")

    async with world(tmp_path) as here:
        here.backends["a"].script = stream("early", then=rest)
        client = await (await here.ask(chat(stream=True))).head()

        assert b'"early"' in await client.some()
        go.set()
        assert b'"late"' in await client.body()


async def test_an_error_in_the_middle_of_a_stream_is_told_in_our_words(tmp_path):
    """What the backend says to it may hold a path; the attempt counts as broken."""

    async def fails(got: Got, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(piece(event({"error": {"message": "/srv/models/x.py: out of memory", "code": 500}}) + event("[DONE]")) + b"0\r\n\r\n")

    async with world(tmp_path) as here:
        here.backends["a"].script = stream("one", then=fails)
        client = await (await here.ask(chat(stream=True))).head()
        body = await client.body()

        assert b'"one"' in body
        assert b"/srv" not in body
        assert b'data: {"error":' in body
        assert b"[DONE]" not in body
        await here.settled()
        assert here.endings == [("a", "broke")]


async def test_a_completion(tmp_path):
    """The other endpoint where the policy decides."""
    async with world(tmp_path) as here:
        client = await here.ask({"model": "auto", "prompt": "The sea is"}, "/v1/completions")

        assert (await client.answer())["model"] == "m-a"
        assert here.backends["a"].got[0].path == "/v1/completions"


# --- what goes upstream ---


async def test_a_backend_gets_what_the_client_wrote(tmp_path):
    """But for the model's name."""
    fields = {
        "temperature": 0.5,
        "seed": 1,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "x": {"y": [1, None]},
        "stop": ["a"],
    }

    async with world(tmp_path) as here:
        await (await here.ask(chat("Héllo", **fields))).answer()

        assert here.backends["a"].got[0].json() == {**chat("Héllo", **fields), "model": "m-a"}
        assert here.backends["a"].got[0].path == "/v1/chat/completions"


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_a_budget(tmp_path, streamed):
    """Upstream it is a cap and an instruction; to the client it is a header and, where it has cut, the finish reason."""

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        if streamed:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            writer.write(head + piece(event(chunk("a")) + event(chunk(finish="length")) + event("[DONE]")) + b"0\r\n\r\n")
        else:
            writer.write(answer(orjson.dumps(completion("a", finish="length", tokens=5))))

    async with world(tmp_path, more=BUDGETS, policy="static:a@5") as here:
        here.backends["a"].script = script
        ask = chat("Why?", stream=streamed)
        ask["messages"] = [{"role": "system", "content": "S"}, *ask["messages"], {"role": "assistant", "content": "A"}]
        client = await (await here.ask(ask)).head()
        body = await client.body()

        sent = here.backends["a"].got[0].json()
        assert sent["max_completion_tokens"] == 5
        assert [m["content"] for m in sent["messages"]] == ["S", "Why?\n\nAnswer in at most 3 words.", "A"]
        assert client.headers["x-bestserve-budget"] == "5"
        assert b'"finish_reason":"length"' in body
        await here.settled()
        assert here.serving.recent[-1].outcome.cut


async def test_a_client_who_wants_less_than_the_budget_gets_what_he_wants(tmp_path):
    """Then a cut is his own."""
    async with world(tmp_path, more=BUDGETS, policy="static:a@5") as here:
        here.backends["a"].script = say("a", finish="length")
        await (await here.ask(chat(max_tokens=3))).answer()

        assert here.backends["a"].got[0].json()["max_tokens"] == 3
        assert here.endings == [("a", "done")]
        assert not here.serving.recent[-1].outcome.cut


# --- names ---


async def test_a_name_admits_backends(tmp_path):
    """An alias admits its own, a backend's or a model's name pins it; the body says which model has answered."""
    names = {"auto": "a", "a": "a", "b": "b", "m-a": "a", "m-b": "b", "second": "b", "org/both": "a"}

    async with world(tmp_path, more="models: {auto: [a, b], second: [b], org/both: [a, b]}\n") as here:
        for model, backend in names.items():
            client = await here.ask({**chat(), "model": model})
            said = await client.answer()
            assert client.headers["x-bestserve-backend"] == backend
            assert said["model"] == f"m-{backend}"


async def test_a_pinned_backend_is_not_replaced(tmp_path):
    """Whoever names one gets it or nothing."""
    async with world(tmp_path) as here:
        here.backends["b"].script = refuse(503)
        client = await here.ask({**chat(), "model": "b"})

        assert (await client.answer())["error"]["code"] == "no_backend_available"
        assert client.status == 503
        assert not here.backends["a"].got


async def test_an_unknown_model(tmp_path):
    """Is a 404 in OpenAI's shape, and nobody is asked."""
    async with world(tmp_path) as here:
        client = await here.ask({**chat(), "model": "gpt-4o"})

        assert await client.answer() == {
            "error": {
                "message": "The model 'gpt-4o' does not exist.",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        }
        assert client.status == 404
        assert "x-request-id" in client.headers
        assert not here.endings


async def test_an_unknown_model_goes_to_the_default_group_where_there_is_one(tmp_path):
    """So that tools which know only their own names work."""
    async with world(tmp_path, more="models: {auto: [a], other: [b]}\ndefault_model: other\n") as here:
        client = await here.ask({**chat(), "model": "gpt-4o"})

        assert (await client.answer())["model"] == "m-b"


async def test_the_list_of_models(tmp_path):
    """Every name that a request may say; each alone, too, with or without a slash, escaped or not."""
    async with world(tmp_path, more="models: {auto: [a, b], org/both: [a, b]}\n") as here:
        _, body = await get(here, "/v1/models")
        names = [model["id"] for model in orjson.loads(body)["data"]]
        assert names == ["auto", "org/both", "a", "b", "m-a", "m-b"]

        for path, name in (("auto", "auto"), ("org/both", "org/both"), ("org%2Fboth", "org/both")):
            client, body = await get(here, f"/v1/models/{path}")
            assert (client.status, orjson.loads(body)["id"]) == (200, name)
        for path in ("gpt-4o", "", "org", "org/both/x"):
            client, body = await get(here, f"/v1/models/{path}")
            assert (client.status, orjson.loads(body)["error"]["code"]) == (404, "model_not_found")


# --- what is only passed on ---


def serve_on(here: World, folder: object, *, interval_ms: int = 20, **can: str) -> None:
    """Serve on with these capabilities of the backends, and probes so far apart."""
    rows = "\n".join(
        f"  - {{name: {name}, url: 'http://127.0.0.1:{b.port}', model: m-{name}, profile: fast.toml, capabilities: [{can.get(name, '')}]}}"
        for name, b in here.backends.items()
    )
    policy = "policy: {checkpoint: published, fallback: 'static:a'}"
    text = f"backends:\n{rows}\n{policy}\nprobe: {{interval_ms: {interval_ms}}}\nlog: {{level: error}}\n"
    here.serving.adopt(parse(text, {}, source=f"{folder}/bestserve.yaml"))


@pytest.mark.parametrize("endpoint", ["embeddings", "responses"])
async def test_what_is_only_passed_on_goes_to_one_that_can(tmp_path, endpoint):
    """As it came, but for the model's name."""

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b'{"ok": true}'))

    async with world(tmp_path) as here:
        serve_on(here, tmp_path, b=endpoint)
        here.backends["b"].script = script
        client = await here.ask({"model": "auto", "input": "Hi", "x": 1}, f"/v1/{endpoint}")

        assert await client.answer() == {"ok": True}
        assert here.backends["b"].got[0].path == f"/v1/{endpoint}"
        assert here.backends["b"].got[0].json() == {"model": "m-b", "input": "Hi", "x": 1}


@pytest.mark.parametrize("endpoint", ["embeddings", "responses"])
async def test_what_nobody_can_is_a_400(tmp_path, endpoint):
    """And no reason to come back."""
    async with world(tmp_path) as here:
        client = await here.ask({"model": "auto", "input": "Hi"}, f"/v1/{endpoint}")

        assert endpoint in (await client.answer())["error"]["message"]
        assert (client.status, client.headers["x-should-retry"]) == (400, "false")
        assert not here.backends["a"].got


async def test_a_streamed_response_is_passed_on_as_it_is(tmp_path):
    """Its events have other names, and usage inside."""
    events_ = b"".join(
        b"event: %s\ndata: %s\n\n"
        % (name.encode(), orjson.dumps({"type": name, "response": {"usage": {"input_tokens": 3}}, "error": None}))
        for name in ("response.created", "response.completed")
    )

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(piece(events_[:50]) + piece(events_[50:]) + b"0\r\n\r\n")

    async with world(tmp_path) as here:
        serve_on(here, tmp_path, a="responses")
        here.backends["a"].script = script
        client = await (await here.ask({"model": "auto", "input": "Hi", "stream": True}, "/v1/responses")).head()

        assert await client.body() == events_
        assert "stream_options" not in here.backends["a"].got[0].json()


async def test_a_thousand_inputs_to_embed_are_not_too_long(tmp_path):
    """Each has to fit, not all of them together."""
    async with world(tmp_path) as here:
        serve_on(here, tmp_path, a="embeddings")
        client = await here.ask({"model": "auto", "input": ["word " * 100] * 1000}, "/v1/embeddings")
        await client.answer()

        assert client.status == 200


# --- too long ---


async def test_too_long_for_one_goes_to_a_larger_one(tmp_path):
    """The backend knows better than our guess; the client notices nothing."""
    async with world(tmp_path) as here:
        here.backends["a"].script = refuse(400, OVER_PROMPT)
        client = await here.ask(chat())

        assert (await client.answer())["model"] == "m-b"
        assert here.endings == [("a", "refused"), ("b", "done")]


async def test_too_long_for_everybody_is_a_400_with_the_numbers(tmp_path):
    """By the backend's own count."""
    async with world(tmp_path) as here:
        for backend in here.backends.values():
            backend.script = refuse(400, OVER_PROMPT)
        client = await here.ask(chat())
        error = (await client.answer())["error"]

        assert error["message"] == "The prompt has 9031 tokens, 839 more than the longest context here, which is 8192 tokens."
        assert (client.status, error["code"], client.headers["x-should-retry"]) == (400, "context_length_exceeded", "false")


async def test_too_long_for_one_while_another_is_busy_is_no_fault_of_the_request(tmp_path):
    """It may fit there, later."""
    async with world(tmp_path) as here:
        here.backends["a"].script = refuse(400, OVER_PROMPT)
        here.backends["b"].script = refuse(503)
        client = await here.ask(chat())
        await client.answer()

        assert (client.status, client.headers["x-should-retry"]) == (503, "true")


async def test_what_is_surely_too_long_is_not_sent_at_all(tmp_path):
    """Said by its size, with the numbers."""
    async with world(tmp_path) as here:
        client = await here.ask(chat("word " * 40_000))
        error = (await client.answer())["error"]

        assert (client.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
        assert "8192" in error["message"]
        assert not here.backends["a"].got


# --- headers ---


async def test_deadlines_may_come_with_the_request(tmp_path):
    """In milliseconds; what is not said stays the config's."""
    async with world(tmp_path) as here:
        await (await here.ask(chat(), x_slo_ttft_ms="250", x_slo_e2e_ms="1e3")).answer()

        slo = here.serving.recent[-1].ask.slo
        assert (slo.ttft_s, slo.tpot_s, slo.e2e_s) == (0.25, 0.06, 1.0)


async def test_deadlines_that_are_none_are_refused(tmp_path):
    """By the header's name."""
    async with world(tmp_path, "a") as here:
        for name in ("x-slo-ttft-ms", "x-slo-tpot-ms", "x-slo-e2e-ms"):
            for value in ("0", "-1", "nan", "inf", "soon", "", "86400001", "0x10", "1,5", "\xff"):
                client = await here.ask(chat(), **{name: value})
                assert (await client.answer())["error"]["param"] == name
                assert client.status == 400

        assert not here.endings


async def test_a_task_may_be_hinted_at(tmp_path):
    """By header, or in the metadata; it is told, counted and recorded."""
    async with world(tmp_path) as here:
        by_header = await (await here.ask(chat(), x_bestserve_task="math")).head()
        await by_header.body()
        in_body = await (await here.ask(chat(metadata={"task": "code"}))).head()
        await in_body.body()

        assert by_header.headers["x-bestserve-task"] == "math"
        assert in_body.headers["x-bestserve-task"] == "code"


async def test_a_hint_at_no_task_is_refused(tmp_path):
    """With the list of those that there are."""
    async with world(tmp_path, "a") as here:
        for hint in ("poetry", "Math", "\xe9", "x" * 5000):
            client = await here.ask(chat(), x_bestserve_task=hint)
            error = (await client.answer())["error"]
            assert client.status == 400
            assert "classify" in error["message"]
            assert len(error["message"]) < 1000


async def test_a_tier_is_served(tmp_path):
    """As the body asks for it; other words are the default."""
    async with world(tmp_path) as here:
        for tier in ("flex", "priority", "auto", "scale"):
            await (await here.ask(chat(service_tier=tier))).answer()

        assert [record.ask.tier for record in here.serving.recent] == ["flex", "priority", "default", "default"]


# --- about the proxy ---


async def test_health(tmp_path):
    """Alive is alive; ready is one backend that is up."""
    async with world(tmp_path) as here:
        for path in ("/health", "/health/liveness"):
            client, body = await get(here, path)
            assert (client.status, body) == (200, b'{"status":"ok"}')
        client, body = await get(here, "/health/readiness")
        assert (client.status, orjson.loads(body)) == (200, {"status": "ok", "backends": {"a": True, "b": True}})

        for backend in here.backends.values():
            backend.is_ready = False
        await until(lambda: not any(here.serving.backends_up().values()))

        client, body = await get(here, "/health/readiness")
        assert (client.status, orjson.loads(body)["backends"]) == (503, {"a": False, "b": False})
        assert (await get(here, "/health"))[0].status == 200


async def test_metrics(tmp_path):
    """As Prometheus reads them."""
    async with world(tmp_path) as here:
        await (await here.ask(chat(), x_bestserve_task="qa")).answer()
        client, body = await get(here, "/metrics")

        assert client.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b'bestserve_decisions_total{backend="a",budget="none",task="qa"} 1.0' in body
        assert b'bestserve_backend_up{backend="b"} 1.0' in body
        assert b'bestserve_inflight{backend="a"} 0.0' in body
        assert b'bestserve_policy_info{version="static:a"} 1.0' in body


async def test_what_does_not_exist(tmp_path):
    """Is a 404 in OpenAI's shape."""
    async with world(tmp_path, "a") as here:
        for path in ("/", "/v1", "/v1/chat/completions/", "/v1/nothing", "/generate", "/health/", "/v1//models"):
            for method in ("GET", "POST"):
                client = await here.ask(b"{}", path, method)
                assert (await client.answer())["error"]["code"] == "not_found"
                assert client.status == 404


async def test_the_wrong_method(tmp_path):
    """Is a 405 that says the right one."""
    async with world(tmp_path, "a") as here:
        wrong = [("GET", "/v1/chat/completions"), ("PUT", "/v1/embeddings"), ("POST", "/v1/models"), ("DELETE", "/health")]
        for method, path in wrong:
            client = await here.ask(b"{}", path, method)
            assert (await client.answer())["error"]["code"] == "method_not_allowed"
            assert client.status == 405
            assert client.headers["allow"]


# --- the OpenAI SDK ---


async def test_the_sdk_chats(tmp_path):
    """As with OpenAI."""
    async with world(tmp_path) as here, sdk(here) as client:
        answered = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hi"}])

        assert answered.choices[0].message.content == "Hello from a"
        assert answered.usage.completion_tokens == 3
        assert answered._request_id


@pytest.mark.parametrize("usage_asked", [True, False])
async def test_the_sdk_streams(tmp_path, usage_asked):
    """Word by word."""
    options = {"stream_options": {"include_usage": True}} if usage_asked else {}

    async with world(tmp_path) as here, sdk(here) as client:
        answered = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hi"}], stream=True, **options)
        chunks = [chunk async for chunk in answered]

        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hellofroma"
        assert [c.usage.completion_tokens for c in chunks if c.usage] == ([3] if usage_asked else [])


async def test_the_sdk_without_asyncio(tmp_path):
    """From a thread, chats, streams and models."""

    def use(base_url: str) -> tuple[str, str, list[str]]:
        with openai.OpenAI(base_url=base_url, api_key="sk-x", max_retries=0) as client:
            hi = [{"role": "user", "content": "Hi"}]
            whole = client.chat.completions.create(model="auto", messages=hi).choices[0].message.content
            with client.chat.completions.create(model="auto", messages=hi, stream=True) as answered:
                streamed = "".join(c.choices[0].delta.content or "" for c in answered if c.choices)
            return whole, streamed, [model.id for model in client.models.list()]

    async with world(tmp_path) as here:
        assert await asyncio.to_thread(use, here.base_url) == ("Hello from a", "Hellofroma", ["auto", "a", "b", "m-a", "m-b"])


async def test_the_sdk_embeds(tmp_path):
    """Through a backend that can."""

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        rows = [{"object": "embedding", "index": i, "embedding": [0.5, i]} for i in range(len(got.json()["input"]))]
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        writer.write(answer(orjson.dumps({"object": "list", "data": rows, "model": got.json()["model"], "usage": usage})))

    async with world(tmp_path) as here, sdk(here) as client:
        serve_on(here, tmp_path, b="embeddings")
        here.backends["b"].script = script
        answered = await client.embeddings.create(model="auto", input=["one", "two"])

        assert [row.embedding for row in answered.data] == [[0.5, 0], [0.5, 1]]
        assert answered.model == "m-b"


async def test_the_sdk_finds_a_model_with_a_slash(tmp_path):
    """However it escapes it."""
    async with world(tmp_path, more="models: {org/both: [a, b]}\n") as here, sdk(here) as client:
        assert (await client.models.retrieve("org/both")).id == "org/both"


async def test_the_sdk_knows_our_errors(tmp_path):
    """By its own classes."""
    hi = [{"role": "user", "content": "Hi"}]

    async with world(tmp_path) as here, sdk(here) as client:
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt-4o", messages=hi)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="auto", messages=[])
        assert (caught.value.param, caught.value.request_id is not None) == ("messages", True)
        for backend in here.backends.values():
            backend.script = refuse(503)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="auto", messages=hi)


async def test_the_sdk_raises_when_a_stream_breaks(tmp_path):
    """Half an answer is not taken for a whole one."""

    async def breaks(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with world(tmp_path) as here, sdk(here) as client:
        here.backends["a"].script = stream("one", then=breaks)
        answered = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hi"}], stream=True)

        with pytest.raises(openai.APIError, match="The backend failed"):
            _ = [chunk async for chunk in answered]


@pytest.mark.parametrize("max_retries", [0, 1])
async def test_the_sdk_comes_back_as_often_as_it_may(tmp_path, max_retries):
    """When it was told to, and not before the time that it was told."""
    async with world(tmp_path) as here, sdk(here, max_retries=max_retries) as client:
        for backend in here.backends.values():
            backend.script = refuse(503)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hi"}])

        sheds = [record for record in here.serving.recent if record.outcome.ending == "shed"]
        assert len(sheds) == 1 + max_retries
        assert sheds[-1].wall - sheds[0].wall >= 0.3 * max_retries


async def test_the_sdk_does_not_come_back_with_what_is_wrong(tmp_path):
    """It was told not to."""
    async with world(tmp_path) as here, sdk(here, max_retries=2) as client:
        here.backends["a"].script = refuse(400, {"object": "error", "message": "temperature must be positive", "code": 400})
        with pytest.raises(openai.BadRequestError, match="temperature must be positive"):
            await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hi"}])

        assert here.endings == [("a", "rejected")]


# --- another config ---


async def test_a_backend_may_come_and_go_while_another_answers(tmp_path):
    """A stream of a removed backend goes on to its end; what comes after goes elsewhere; no trace of it stays."""
    go = asyncio.Event()

    async def rest(got: Got, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(piece(event(chunk("end")) + event("[DONE]")) + b"0\r\n\r\n")

    async with world(tmp_path) as here:
        new = here.backends["c"] = Backend("c")
        await new.start()
        here.backends["a"].script = stream("begin", then=rest)
        client = await (await here.ask(chat(stream=True))).head()
        await client.some()
        others = {name: backend for name, backend in here.backends.items() if name != "a"}

        assert serve.reload(here.serving, lambda: config_of(tmp_path, others, policy="static:c"))
        await until(lambda: here.serving.backends_up() == {"b": True, "c": True})
        later = await here.ask(chat())
        assert (await later.answer())["model"] == "m-c"
        assert here.serving.fleet.in_flight() == {"a": 1, "b": 0, "c": 0}
        go.set()

        assert b'"end"' in await client.body()
        await here.settled()
        assert here.endings == [("c", "done"), ("a", "done")]
        assert here.serving.fleet.in_flight() == {"b": 0, "c": 0}
        _, metrics = await get(here, "/metrics")
        assert b'bestserve_backend_up{backend="a"}' not in metrics
        assert re.findall(rb'bestserve_policy_info\{version="(\S+)"\} 1', metrics) == [b"static:c"]


async def test_a_config_that_cannot_be_used_changes_nothing(tmp_path):
    """The old one goes on."""

    def broken() -> Config:
        raise BadConfig([Problem(1, "backends", "must be there")], source="x")

    async with world(tmp_path) as here:
        before = here.serving.config

        assert not serve.reload(here.serving, broken)
        assert here.serving.config is before
        assert (await (await here.ask(chat())).answer())["model"] == "m-a"


async def test_the_same_config_again_keeps_connections_and_books(tmp_path):
    """Nothing has moved."""
    async with world(tmp_path) as here:
        here.backends["a"].script = nothing
        client = await here.ask(chat())
        await here.backends["a"].arrived.wait()
        upstreams = dict(here.serving.upstreams)

        here.serving.adopt(config_of(tmp_path, here.backends))

        assert here.serving.upstreams == upstreams
        assert here.serving.fleet.in_flight() == {"a": 1, "b": 0}
        client.leave()
        await here.settled()
        assert here.serving.fleet.in_flight() == {"a": 0, "b": 0}


async def test_a_backend_that_leaves_and_returns_is_probed_again(tmp_path):
    """However quickly."""
    async with world(tmp_path) as here:
        only_b = {"b": here.backends["b"]}
        for _ in range(10):
            here.serving.adopt(config_of(tmp_path, only_b, policy="static:b"))
            await asyncio.sleep(0.007)
            here.serving.adopt(config_of(tmp_path, here.backends))
            await asyncio.sleep(0.007)

        await until(lambda: here.serving.backends_up() == {"a": True, "b": True})


# --- probes ---


async def test_a_backend_that_is_not_ready_is_left_alone_until_it_is(tmp_path):
    """By its own word."""
    async with world(tmp_path) as here:
        here.backends["a"].is_ready = False
        await until(lambda: here.serving.describe()[0]["circuit"] == "open")
        assert (await (await here.ask(chat())).answer())["model"] == "m-b"

        here.backends["a"].is_ready = True
        await until(lambda: here.serving.backends_up()["a"])
        assert (await (await here.ask(chat())).answer())["model"] == "m-a"


async def test_a_backend_that_dies_is_left_alone_until_it_is_back(tmp_path):
    """At the same address."""
    async with world(tmp_path) as here:
        port = here.backends["a"].port
        await here.backends["a"].stop()
        await until(lambda: not here.serving.backends_up()["a"])
        assert (await (await here.ask(chat())).answer())["model"] == "m-b"

        await here.backends["a"].start(port)
        await until(lambda: here.serving.backends_up()["a"])
        assert (await (await here.ask(chat())).answer())["model"] == "m-a"


async def test_load_is_read(tmp_path):
    """As the backend says it."""
    async with world(tmp_path) as here:
        here.backends["a"].loads = {"loads": [{"num_running_reqs": 7, "num_waiting_reqs": 2, "num_used_tokens": 100}]}

        await until(lambda: (load := here.serving.fleet.load_of("a")[0]) is not None and load.running == 7)
        assert here.serving.describe()[0]["in_flight"] == pytest.approx(9, rel=0.1)


class Pages:
    """An upstream that has some pages; others are missing, or never come."""

    speaks = SGLANG

    def __init__(self, **pages: bytes | Exception) -> None:
        self.pages = {"/ready": b"", **{"/" + name: page for name, page in pages.items()}}
        self.asked: list[str] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        page = self.pages.get(path.split("?")[0].replace("/v1/", "/"), (404, b'{"detail":"Not Found"}'))
        if isinstance(page, Exception):
            raise page
        return page if isinstance(page, tuple) else (200, page)


METRICS = b"sglang:num_running_reqs 5\nsglang:num_queue_reqs 1\n"


@pytest.mark.parametrize("loads", [None, b"", b"{}", b"<html>"])
async def test_a_backend_without_loads_is_asked_for_its_metrics(tmp_path, loads):
    """Missing or not to be read."""
    pages = Pages(metrics=METRICS, **({} if loads is None else {"loads": loads}))

    async with world(tmp_path) as here:
        serve_on(here, tmp_path, interval_ms=86_400_000)
        await asyncio.sleep(0.03)
        await probe(here.serving, "a", pages)

        assert pages.asked == ["/ready", LOADS, "/metrics"]
        assert here.serving.fleet.load_of("a")[0].running == 5


@pytest.mark.parametrize("wrong", [Refused("timeout"), TimeoutError(), (500, b""), b"sglang:num_running_reqs 1e999\n", b"\xff"])
async def test_a_report_that_fails_is_no_failure_of_the_backend(tmp_path, wrong):
    """It is ready, by its own word; the last report grows old."""
    async with world(tmp_path) as here:
        serve_on(here, tmp_path, interval_ms=86_400_000)
        await asyncio.sleep(0.03)
        for _ in range(3):
            await probe(here.serving, "a", Pages(loads=wrong, metrics=wrong))

        assert here.serving.backends_up()["a"]
        assert here.serving.describe()[0]["circuit"] == "closed"


@pytest.mark.parametrize("wrong", [Refused("connect_failed"), TimeoutError(), (503, b"")])
async def test_a_probe_that_fails_is_a_failure_of_the_backend(tmp_path, wrong):
    """Three in a row, and nobody is sent there."""
    async with world(tmp_path) as here:
        serve_on(here, tmp_path, interval_ms=86_400_000)
        await asyncio.sleep(0.03)
        for _ in range(3):
            await probe(here.serving, "a", Pages(ready=wrong))

        assert not here.serving.backends_up()["a"]
        assert here.serving.describe()[0]["circuit"] == "open"


async def test_a_connection_that_is_kept_does_not_wait_for_acknowledgements():
    """A head and a body are two packets; with Nagle's algorithm the second would wait some 40 ms for a delayed ACK of the first."""
    listening = bind("127.0.0.1", 0)
    options: asyncio.Queue[int] = asyncio.Queue()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        options.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(note, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())

        assert await options.get()
        writer.close()
        await writer.wait_closed()


async def test_a_request_is_told_by_its_text(tmp_path):
    """In the headers, the record and the metrics; what has no text gets the prior, and that is counted too."""
    async with world(tmp_path) as here:
        text = {"messages": [{"role": "user", "content": "Translate to French: where is the train station?"}]}
        image = {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}
        for body in (text, image):
            client = await (await here.ask({**chat(), **body})).head()
            await client.body()
            assert client.headers["x-bestserve-task"] == ("translate" if body is text else "unknown")

        told, prior = (record.ask for record in here.serving.recent)
        assert max(told.task) == told.task[TASKS.index("translate")] > 0.5
        assert told.length.median < 90
        assert prior.task == (0.1,) * 10
        counted = here.serving.exposition().decode()
        assert 'bestserve_classify_total{how="text"} 1.0' in counted
        assert 'bestserve_classify_total{how="prior"} 1.0' in counted


async def test_lengths_follow_the_answers_of_each_backend(tmp_path):
    """What one was seen to write is expected of it, and of it only."""
    async with world(tmp_path) as here:
        before = here.serving.view().knowledge
        for _ in range(30):
            await (await here.ask({**chat(), "model": "a"})).answer()
        after = here.serving.view().knowledge

        changed = {int(row) for row in np.argwhere(before != after)[:, 0]}
        assert changed == {here.serving.fleet.names.index("a") * KNOWN + LONGER}
