"""The stand-in speaks SGLang's dialect, keeps the engine's time, and forgets a request however it ends."""

import asyncio
import base64
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import orjson
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from bestserve.profiles.schema import TASKS, Engine, Profile
from bestserve.proxy.emulator import build
from bestserve.proxy.emulator_text import MEDIAN, count, document, draw, ids, pieces, write

ENGINE = Engine(
    prefill_tokens_per_s=1000.0,
    prefill_fixed_s=0.02,
    step_fixed_s=0.010,
    step_per_seq_s=0.001,
    step_per_kv_token_s=0.0,
    max_running=64,
    kv_tokens=40_000,
    context=8_192,
    prefill_batch_tokens=8_192,
)
PROFILE = Profile(name="small", model="org/Small-1B", params_b=1.0, gpu="none", n_gpus=1, engine=ENGINE, quality=dict.fromkeys(TASKS, 0.5))
HI = {"model": "small", "messages": [{"role": "user", "content": "Hi there"}]}


class World:
    """A clock that only sleeping moves, an application that runs by it, and clients that need no socket."""

    def __init__(self, late_s: float = 0.0, *, noise: float = 0.0, prefix_cache: bool = False, **engine: Any) -> None:
        self.now, self.late_s, self.held = 100.0, late_s, asyncio.Event()
        self.held.set()
        profile = replace(PROFILE, engine=replace(ENGINE, **engine))
        self.app: Starlette = build(
            profile,
            clock=lambda: self.now,
            sleep=self.sleep,
            exact=True,
            wall=lambda: 1_795_359_166.0,
            noise=noise,
            prefix_cache=prefix_cache,
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://emulated")

    async def sleep(self, seconds: float) -> None:
        """Time passes, some of it more than was asked; while `held` is clear it does not."""
        await asyncio.sleep(0)
        await self.held.wait()
        self.now += seconds + self.late_s

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.http.post(path, content=body if isinstance(body, bytes) else orjson.dumps(body))

    async def load(self) -> tuple[int, int, int]:
        one = (await self.http.get("/v1/loads?include=core")).json()["loads"][0]
        return one["num_running_reqs"], one["num_waiting_reqs"], one["num_used_tokens"]

    async def until(self, done: Callable[[tuple[int, int, int]], bool]) -> None:
        async with asyncio.timeout(5):
            while not done(await self.load()):
                await asyncio.sleep(0)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story()

    asyncio.run(bounded())


def post(path: str, body: Any, **engine: Any) -> httpx.Response:
    """One request to a fresh server."""

    async def one() -> httpx.Response:
        return await World(**engine).post(path, body)

    return asyncio.run(one())


def events(reply: httpx.Response) -> list[Any]:
    """The data of a stream; the last one is the text [DONE], as it has to be."""
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [orjson.loads(line) for line in lines[:-1]]


class TestChat:
    def test_a_body_has_what_sglang_sends(self) -> None:
        """Every field of a captured reply, in its order, and the header that says what this is."""
        reply = post("/v1/chat/completions", {**HI, "max_tokens": 3})

        body = reply.json()
        assert reply.headers["x-bestserve-emulated"] == "true"
        assert reply.headers["content-type"] == "application/json"
        assert list(body) == ["id", "object", "created", "model", "choices", "usage", "metadata"]
        assert len(body.pop("id")) == 32
        assert body == {
            "object": "chat.completion",
            "created": 1_795_359_166,
            "model": "small",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "This is an", "reasoning_content": None},
                    "logprobs": None,
                    "finish_reason": "length",
                    "matched_stop": None,
                }
            ],
            "usage": {
                "prompt_tokens": 9,
                "total_tokens": 12,
                "completion_tokens": 3,
                "prompt_tokens_details": None,
                "reasoning_tokens": 0,
                "completion_tokens_details": None,
            },
            "metadata": {"weight_version": "default", "weight_versions": [{"version": "default", "start": 0, "end": 3}]},
        }

    def test_a_stream_has_the_chunks_sglang_sends(self) -> None:
        """Role, a chunk a token, the reason, the usage because it was asked for, [DONE]; byte for byte."""
        reply = post("/v1/chat/completions", {**HI, "rid": "r", "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}})

        head = 'data: {"id":"r","object":"chat.completion.chunk","created":1795359166,"model":"small","choices":['
        rest = '"logprobs":null,"finish_reason":null,"matched_stop":null}]}\n\n'
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.text == (
            head + '{"index":0,"delta":{"reasoning_content":null,"role":"assistant","content":""},' + rest
            + head + '{"index":0,"delta":{"reasoning_content":null,"content":"This"},' + rest
            + head + '{"index":0,"delta":{"reasoning_content":null,"content":" is"},' + rest
            + head + '{"index":0,"delta":{"reasoning_content":null},"logprobs":null,"finish_reason":"length","matched_stop":null}]}\n\n'
            + head + '],"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2,"prompt_tokens_details":null,'
            '"reasoning_tokens":0,"completion_tokens_details":null}}\n\ndata: [DONE]\n\n'
        )  # fmt: skip

    def test_a_stream_says_what_the_body_says(self) -> None:
        """The same text and the same count of tokens, one chunk for each."""
        whole = post("/v1/chat/completions", HI).json()
        chunks = events(post("/v1/chat/completions", {**HI, "stream": True, "stream_options": {"include_usage": True}}))

        said = [choice["delta"]["content"] for chunk in chunks for choice in chunk["choices"] if choice["delta"].get("content")]
        assert "".join(said) == whole["choices"][0]["message"]["content"]
        assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == len(said)
        assert whole["choices"][0]["finish_reason"] == "stop"
        assert whole["choices"][0]["matched_stop"] == 2

    def test_no_usage_unless_asked(self) -> None:
        """A plain stream has no usage anywhere."""
        reply = post("/v1/chat/completions", {**HI, "max_tokens": 2, "stream": True})

        assert "usage" not in reply.text

    def test_usage_goes_along_if_asked(self) -> None:
        """With continuous_usage_stats each token's chunk says how many there are."""
        options = {"include_usage": True, "continuous_usage_stats": True}
        chunks = events(post("/v1/chat/completions", {**HI, "max_tokens": 3, "stream": True, "stream_options": options}))

        assert [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk] == [1, 2, 3, 3]

    def test_an_unknown_model_is_served_and_named(self) -> None:
        """As SGLang does."""
        assert post("/v1/chat/completions", {**HI, "model": "nope", "max_tokens": 1}).json()["model"] == "nope"

    def test_choices_are_many_and_different(self) -> None:
        """n of them, each with its own length, their tokens added up, the prompt counted once."""
        body = post("/v1/chat/completions", {**HI, "n": 3}).json()
        alone = post("/v1/chat/completions", HI).json()

        texts = [choice["message"]["content"] for choice in body["choices"]]
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert len(set(texts)) == 3
        assert body["usage"]["completion_tokens"] == sum(len(pieces(text)) for text in texts)
        assert body["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]

    def test_streamed_choices_are_told_apart(self) -> None:
        """Each index has its role, its text and its reason."""
        chunks = events(post("/v1/chat/completions", {**HI, "n": 2, "max_tokens": 4, "stream": True}))

        for index in (0, 1):
            mine = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
            assert mine[0]["delta"]["role"] == "assistant"
            assert "".join(choice["delta"].get("content", "") for choice in mine) == "This is an emulated"
            assert mine[-1]["finish_reason"] == "length"

    @pytest.mark.parametrize("stop", ["mul", ["never", "mul"]])
    def test_a_stop_ends_the_answer_before_it(self, stop: str | list[str]) -> None:
        """The text stops short of it, and matched_stop names it."""
        body = post("/v1/chat/completions", {**HI, "stop": stop}).json()

        assert body["choices"][0]["message"]["content"] == "This is an e"
        assert body["choices"][0]["finish_reason"] == "stop"
        assert body["choices"][0]["matched_stop"] == "mul"
        assert body["usage"]["completion_tokens"] == 4

    def test_ignore_eos_goes_on_to_the_cap(self) -> None:
        """A benchmark gets as many tokens as it asks for."""
        body = post("/v1/chat/completions", {**HI, "ignore_eos": True, "max_completion_tokens": 1500}).json()

        assert body["usage"]["completion_tokens"] == 1500
        assert body["choices"][0]["finish_reason"] == "length"

    def test_a_cap_of_nothing_says_nothing(self) -> None:
        """max_tokens 0 is read, and ends with no token."""
        body = post("/v1/chat/completions", {**HI, "max_tokens": 0}).json()
        chunks = events(post("/v1/chat/completions", {**HI, "max_tokens": 0, "stream": True}))

        assert body["usage"]["completion_tokens"] == 0
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "length"]

    def test_probabilities_have_one_entry_a_token(self) -> None:
        """With the alternatives asked for, the token itself first."""
        body = post("/v1/chat/completions", {**HI, "max_tokens": 3, "logprobs": True, "top_logprobs": 2}).json()

        content = body["choices"][0]["logprobs"]["content"]
        assert [one["token"] for one in content] == ["This", " is", " an"]
        assert [len(one["top_logprobs"]) for one in content] == [2, 2, 2]
        assert all(one["top_logprobs"][0]["token"] == one["token"] and one["logprob"] < 0 for one in content)
        assert bytes(content[1]["bytes"]) == b" is"

    def test_a_required_tool_is_called(self) -> None:
        """With arguments that its schema allows; streamed, they come bit by bit."""
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
        ask = {**HI, "tools": tools, "tool_choice": "required"}
        body = post("/v1/chat/completions", ask).json()
        options = {"include_usage": True}
        chunks = events(post("/v1/chat/completions", {**ask, "stream": True, "stream_options": options}))

        call = body["choices"][0]["message"]["tool_calls"][0]
        bits = [bit for chunk in chunks for choice in chunk["choices"] for bit in choice["delta"].get("tool_calls", ())]
        assert body["choices"][0]["finish_reason"] == "tool_calls"
        assert body["choices"][0]["message"]["content"] is None
        assert (call["function"]["name"], orjson.loads(call["function"]["arguments"])) == ("weather", {"city": "emulated"})
        assert bits[0]["function"]["name"] == "weather"
        assert "".join(bit["function"]["arguments"] for bit in bits) == call["function"]["arguments"]
        assert chunks[-1]["usage"]["completion_tokens"] == len(bits)

    def test_a_schema_is_satisfied(self) -> None:
        """The answer is a document of the shape asked for."""
        schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = post("/v1/chat/completions", {**HI, "response_format": form}).json()
        free = post("/v1/chat/completions", {**HI, "response_format": {"type": "json_object"}}).json()

        assert orjson.loads(body["choices"][0]["message"]["content"]) == {"n": 3}
        assert orjson.loads(free["choices"][0]["message"]["content"])["emulated"] is True

    def test_parts_of_text_are_text(self) -> None:
        """A list of text parts is answered as the text they make."""
        parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
        body = post("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": parts}]}).json()

        assert body["choices"] == post("/v1/chat/completions", HI).json()["choices"]


class TestCompletions:
    def test_a_body_has_what_sglang_sends(self) -> None:
        """Text, reason, usage and metadata, in the captured shape; sixteen tokens if nobody says otherwise."""
        body = post("/v1/completions", {"model": "small", "prompt": "The sea is"}).json()

        assert list(body) == ["id", "object", "created", "model", "choices", "usage", "metadata"]
        assert body["object"] == "text_completion"
        assert list(body["choices"][0]) == ["index", "text", "logprobs", "finish_reason", "matched_stop"]
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 16)

    def test_the_last_chunk_of_a_stream_brings_the_reason(self) -> None:
        """There is no chunk of its own for it; `usage` is null until the end, which leaves out what is null."""
        ask = {"model": "small", "prompt": "The sea is", "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}
        chunks = events(post("/v1/completions", ask))

        assert [chunk["usage"] for chunk in chunks[:-1]] == [None, None]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, "length"]
        assert chunks[-1]["usage"] == {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2, "reasoning_tokens": 0}

    def test_many_prompts_have_many_choices(self) -> None:
        """n for each prompt, in order."""
        body = post("/v1/completions", {"model": "small", "prompt": ["a", "b"], "n": 2, "max_tokens": 400}).json()

        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]

    def test_numbers_are_a_prompt(self) -> None:
        """As many tokens as there are."""
        assert post("/v1/completions", {"prompt": [1, 2, 3, 4, 5], "max_tokens": 1}).json()["usage"]["prompt_tokens"] == 5

    def test_probabilities_are_lists(self) -> None:
        """In the old shape: tokens, offsets, and a table of alternatives each."""
        chances = post("/v1/completions", {"prompt": "x", "max_tokens": 3, "logprobs": 2}).json()["choices"][0]["logprobs"]

        assert chances["tokens"] == ["This", " is", " an"]
        assert chances["text_offset"] == [0, 4, 7]
        assert [len(one) for one in chances["top_logprobs"]] == [2, 2, 2]


def invalid(detail: str, path: str, function: str) -> str:
    source = f'  File "site-packages/sglang/srt/entrypoints/http_server.py", line 1870, in {function}\n    POST {path} [{detail}]'
    return f"1 validation error:\n  {detail}\n\n{source}"


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message", "kind"),
        [
            ({"messages": []}, "Messages cannot be empty.", "BadRequestError"),
            ({"max_tokens": -1}, "max_new_tokens must be at least 0, got -1.", "BadRequestError"),
            ({"temperature": -3}, "temperature must be a non-negative finite number, got -3.0.", "BadRequestError"),
            (
                {"max_tokens": 100_000},
                (
                    "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 100009 "
                    "tokens: 9 tokens from the input messages and 100000 tokens for the completion. Please reduce the number of tokens "
                    "in the input messages or the completion to fit within the limit."
                ),
                "BadRequestError",
            ),
            (
                {"messages": [{"role": "user", "content": "x" * 36_096}]},
                "The input (9031 tokens) is longer than the model's context length (8192 tokens).",
                "BadRequestError",
            ),
            (
                {"max_tokens": "abc"},
                invalid(
                    "{'type': 'int_parsing', 'loc': ('body', 'max_tokens'), 'msg': 'Input should be a valid integer, unable to parse "
                    "string as an integer', 'input': 'abc'}",
                    "/v1/chat/completions",
                    "openai_v1_chat_completions",
                ),
                "Bad Request",
            ),
            (
                {"messages": None},
                invalid(
                    "{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', 'input': {'model': 'small', "
                    "'tool_choice': 'none'}}",
                    "/v1/chat/completions",
                    "openai_v1_chat_completions",
                ),
                "Bad Request",
            ),
        ],
    )
    def test_a_bad_request_is_refused_in_sglangs_words(self, change: dict[str, Any], message: str, kind: str) -> None:
        """400, and the captured body."""
        reply = post("/v1/chat/completions", {**HI, **change})

        assert reply.status_code == 400
        assert reply.json() == {"object": "error", "message": message, "type": kind, "param": None, "code": 400}

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/chat/completions", b'{"model":"small","messages":['),
            ("/v1/chat/completions", b"[]"),
            ("/v1/chat/completions", {**HI, "n": 0}),
            ("/v1/chat/completions", {**HI, "n": 65}),
            ("/v1/chat/completions", {**HI, "stop": 3}),
            ("/v1/chat/completions", {**HI, "temperature": "hot"}),
            ("/v1/chat/completions", {**HI, "top_logprobs": 1.5}),
            ("/v1/chat/completions", {"messages": "Hi"}),
            ("/v1/completions", {"model": "small"}),
            ("/v1/completions", {"prompt": []}),
            ("/v1/completions", {"prompt": "x", "logprobs": True}),
            ("/v1/responses", {"input": []}),
            ("/v1/embeddings", {"input": []}),
            ("/v1/embeddings", {"input": "x", "dimensions": 0}),
            ("/abort_request", b"{"),
        ],
    )
    def test_nonsense_is_a_400(self, path: str, body: Any) -> None:
        """Whatever is wrong, the answer is JSON that says so."""
        reply = post(path, body)

        assert reply.status_code == 400
        assert reply.json()["code"] == 400
        assert reply.headers["x-bestserve-emulated"] == "true"

    def test_other_paths_and_methods_look_as_fastapi_makes_them(self) -> None:
        """404 and 405 have a `detail`, and a model that is not there has OpenAI's error."""

        async def story() -> None:
            http = World().http
            missing, wrong, model = await http.get("/v1/nothing"), await http.get("/v1/completions"), await http.get("/v1/models/nope")

            assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
            assert (wrong.status_code, wrong.json(), wrong.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, "POST")
            assert model.status_code == 404
            assert model.json()["error"]["code"] == "model_not_found"

        run(story)

    def test_a_full_queue_says_so_in_both_ways(self) -> None:
        """503 for a body; 200 and one event for a stream. Those who were let in are served."""

        async def story() -> None:
            world = World(max_running=1, max_queued=1)
            world.held.clear()
            served = [asyncio.create_task(world.post("/v1/chat/completions", {**HI, "max_tokens": 5}))]
            await world.until(lambda load: load[0] == 1)
            served.append(asyncio.create_task(world.post("/v1/chat/completions", {**HI, "max_tokens": 5})))
            await world.until(lambda load: load[1] == 1)

            body = await world.post("/v1/chat/completions", HI)
            stream = await world.post("/v1/chat/completions", {**HI, "stream": True})
            world.held.set()

            assert body.status_code == 503
            assert body.text == '{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}'
            assert stream.status_code == 200
            assert stream.text == (
                'data: {"error": {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", '
                '"param": null, "code": 503}}\n\ndata: [DONE]\n\n'
            )
            assert [reply.status_code for reply in await asyncio.gather(*served)] == [200, 200]
            assert await world.load() == (0, 0, 0)

        run(story)

    def test_the_same_rid_is_not_served_twice_at_once(self) -> None:
        """The second is refused, the first goes on."""

        async def story() -> None:
            world = World()
            world.held.clear()
            first = asyncio.create_task(world.post("/v1/chat/completions", {**HI, "rid": "r"}))
            await world.until(lambda load: load[0] == 1)
            second = await world.post("/v1/chat/completions", {**HI, "rid": "r"})
            world.held.set()

            assert second.status_code == 400
            assert (await first).json()["id"] == "r"

        run(story)


class Caller:
    """A client of one ASGI call: it sends a body, sees what comes, and can hang up."""

    def __init__(self, app: Starlette, body: dict[str, Any], path: str = "/v1/chat/completions") -> None:
        self.seen: list[Any] = []
        self.left = asyncio.Event()
        self.stalled = asyncio.Event()
        self.stalled.set()
        self._body = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]
        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "raw_path": b"", "root_path": ""}
        self.call = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self) -> Any:
        if self._body:
            return self._body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.stalled.wait()
        self.seen.append(message)


class TestEndings:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("when", ["waiting", "reading", "answering", "stalled"])
    def test_a_client_who_leaves_frees_its_place_at_once(self, when: str, stream: bool) -> None:
        """In the queue, during the prefill, during the answer, or with its pipe full: nothing is left of it."""

        async def story() -> None:
            world = World(max_running=1)
            world.held.clear()
            if when == "waiting":
                other = Caller(world.app, HI)
                await world.until(lambda load: load[0] == 1)
            me = Caller(world.app, {**HI, "stream": stream, "ignore_eos": True})
            if when == "stalled":
                me.stalled.clear()
            await world.until(lambda load: load[0] + load[1] == (2 if when == "waiting" else 1))
            if when in {"answering", "stalled"}:
                world.held.set()
                await world.until(lambda load: load[2] > 30)
                world.held.clear()

            me.left.set()
            await asyncio.wait_for(me.call, 5)

            assert await world.load() == ((1, 0, 10) if when == "waiting" else (0, 0, 0))
            assert all(message.get("more_body", True) for message in me.seen)
            world.held.set()
            if when == "waiting":
                await other.call

        run(story)

    @pytest.mark.parametrize("which", [{"rid": "r"}, {"abort_all": True}])
    def test_an_aborted_answer_ends_with_that_reason(self, which: dict[str, Any]) -> None:
        """The stream has its finish chunk and [DONE]; the body what was said so far."""

        async def story() -> None:
            world = World()
            world.held.clear()
            stream = asyncio.create_task(world.post("/v1/chat/completions", {**HI, "rid": "r", "stream": True}))
            body = asyncio.create_task(world.post("/v1/chat/completions", {**HI, "rid": "r2"}))
            await world.until(lambda load: load[0] == 2)

            reply = await world.post("/abort_request", which)
            if "rid" in which:
                await world.post("/abort_request", {"rid": "r2"})

            assert (reply.status_code, reply.content) == (200, b"")
            assert events(await stream)[-1]["choices"][0]["finish_reason"] == "abort"
            assert (await body).json()["choices"][0]["finish_reason"] == "abort"
            assert await world.load() == (0, 0, 0)

        run(story)

    def test_an_unknown_rid_is_aborted_without_complaint(self) -> None:
        """200, as SGLang says."""
        assert post("/abort_request", {"rid": "does-not-exist"}).status_code == 200


class TestTime:
    def test_tokens_come_when_the_engine_says(self) -> None:
        """One request of 9 tokens that says 21: a prefill and twenty steps, and nothing else."""

        async def story() -> None:
            world = World()
            await world.post("/v1/chat/completions", {**HI, "ignore_eos": True, "max_tokens": 21})

            assert world.now - 100.0 == pytest.approx(0.02 + 0.009 + 20 * 0.011)

        run(story)

    def test_sleeping_late_does_not_add_up(self) -> None:
        """Each sleep takes 5 ms more than it should; a hundred tokens are late by that once."""

        async def story() -> None:
            world = World(late_s=0.005)
            await world.post("/v1/chat/completions", {**HI, "ignore_eos": True, "max_tokens": 101})

            assert world.now - 100.0 == pytest.approx(0.029 + 100 * 0.011, abs=0.006)

        run(story)

    def test_who_come_together_share_the_steps(self) -> None:
        """Forty at once take one prefill and longer steps, not forty times the time."""

        async def story() -> None:
            world = World()
            ask = {**HI, "ignore_eos": True, "max_tokens": 11}
            await asyncio.gather(*(world.post("/v1/chat/completions", ask) for _ in range(40)))

            assert world.now - 100.0 == pytest.approx(0.02 + 40 * 0.009 + 10 * 0.050, rel=0.1)

        run(story)

    def test_noise_moves_steps_and_not_their_mean(self) -> None:
        """A tenth of noise: 400 steps take what they should to a hundredth, but not exactly, and the same each time."""

        async def took() -> float:
            world = World(noise=0.1)
            await world.post("/v1/chat/completions", {**HI, "ignore_eos": True, "max_tokens": 401})
            return world.now - 100.0

        assert asyncio.run(took()) == pytest.approx(0.029 + 400 * 0.011, rel=0.01)
        assert asyncio.run(took()) != pytest.approx(0.029 + 400 * 0.011, rel=0.0001)
        assert asyncio.run(took()) == asyncio.run(took())

    def test_what_passes_beside_the_engine_comes_on_top(self) -> None:
        """Half a second of overhead before a prefill of 29 ms."""

        async def story() -> None:
            world = World(overhead_s=0.5)
            await world.post("/v1/chat/completions", {**HI, "max_tokens": 1})

            assert world.now - 100.0 == pytest.approx(0.5 + 0.029)

        run(story)

    @pytest.mark.parametrize("prompt", [list(range(400)), "once upon " * 160])
    def test_a_prompt_that_was_read_before_costs_its_share(self, prompt: Any) -> None:
        """400 tokens are read in 400 ms, then, all but the last of them remembered, in 100 ms; without a memory, in 400 ms again."""

        async def took(world: World) -> float:
            before = world.now
            await world.post("/v1/completions", {"model": "small", "prompt": prompt, "max_tokens": 1})
            return world.now - before

        async def story() -> None:
            forgetful, world = World(), World(prefix_cache=True, prefill_cached_cost=0.25)
            assert await took(world) == pytest.approx(0.02 + 0.4)
            assert await took(world) == pytest.approx(0.02 + 0.1, abs=0.002)
            assert await took(forgetful) == await took(forgetful) == pytest.approx(0.02 + 0.4)

        run(story)

    def test_no_time_at_all_is_refused(self) -> None:
        """A scale of zero would be a server that is always done."""
        with pytest.raises(ValueError, match="time_scale"):
            build(PROFILE, time_scale=0.0)


class TestStatus:
    def test_load_has_sglangs_fields(self) -> None:
        """`include=core` has the numbers, without it come the sections."""

        async def story() -> None:
            world = World()
            await world.post("/v1/chat/completions", {**HI, "max_tokens": 5})
            core, full = (await world.http.get("/v1/loads?include=core")).json(), (await world.http.get("/v1/loads")).json()

            assert list(core) == ["timestamp", "version", "accelerator", "num_accelerators", "loads"]
            assert list(core["loads"][0]) == [
                "timestamp",
                "dp_rank",
                "num_running_reqs",
                "num_waiting_reqs",
                "num_waiting_uncached_tokens",
                "num_used_tokens",
                "num_total_tokens",
                "num_active_tokens",
                "num_prealloc_ready_tokens",
                "max_total_num_tokens",
                "max_running_requests",
                "token_usage",
                "gen_throughput",
                "cache_hit_rate",
                "utilization",
                "total_prefill_uncached_tokens",
                "total_prefill_busy_us",
                "decode_moments",
            ]
            assert set(full["loads"][0]) - set(core["loads"][0]) == {"memory", "disaggregation", "queues"}
            assert core["loads"][0]["max_total_num_tokens"] == 40_000
            assert core["loads"][0]["total_prefill_uncached_tokens"] == 9
            assert core["loads"][0]["decode_moments"][:2] == [4.0, 4.0]

        run(story)

    def test_metrics_are_in_sglangs_families(self) -> None:
        """Gauges with the ranks in their labels, totals by whether they were streamed."""

        async def story() -> None:
            world = World()
            world.held.clear()
            task = asyncio.create_task(world.post("/v1/chat/completions", {**HI, "max_tokens": 5}))
            await world.until(lambda load: load[0] == 1)
            during = (await world.http.get("/metrics")).text
            world.held.set()
            await task
            after = (await world.http.get("/metrics")).text

            ranks = '{engine_type="unified",model_name="org/Small-1B",moe_ep_rank="0",pp_rank="0",tp_rank="0"}'
            assert f"sglang:num_running_reqs{ranks} 1.0\n" in during
            assert f"sglang:num_running_reqs{ranks} 0.0\n" in after
            assert f"sglang:max_total_num_tokens{ranks} 40000.0\n" in after
            total = '{engine_type="unified",is_streaming="false",model_name="org/Small-1B"}'
            assert f"sglang:generation_tokens_total{total} 5.0\n" in after
            assert f"sglang:prompt_tokens_total{total} 9.0\n" in after

        run(story)

    def test_throughput_is_said_while_there_is_any(self) -> None:
        """About ninety tokens a second for one stream; none when it is over."""

        async def story() -> None:
            world = World()
            task = asyncio.create_task(world.post("/v1/chat/completions", {**HI, "ignore_eos": True, "max_tokens": 400}))
            await world.until(lambda load: load[2] > 300)
            during = (await world.http.get("/v1/loads")).json()["loads"][0]["gen_throughput"]
            await task
            await asyncio.sleep(0)
            after = (await world.http.get("/v1/loads")).json()["loads"][0]["gen_throughput"]

            assert 80 < during < 95
            assert after == 0.0

        run(story)

    def test_the_model_and_its_limits_are_said(self) -> None:
        """Under SGLang's paths."""

        async def story() -> None:
            http = World().http
            listed = (await http.get("/v1/models")).json()["data"][0]
            found = (await http.get("/v1/models/org/Small-1B")).json()
            info, server = (await http.get("/model_info")).json(), (await http.get("/server_info")).json()

            assert listed == found
            assert (listed["id"], listed["owned_by"], listed["max_model_len"]) == ("org/Small-1B", "sglang", 8_192)
            assert info["served_model_name"] == "org/Small-1B"
            assert (server["max_running_requests"], server["version"]) == (64, "0.5.23")
            for path in ("/health", "/health_generate", "/ready"):
                reply = await http.get(path)
                assert (reply.status_code, reply.content, reply.headers["x-bestserve-emulated"]) == (200, b"", "true")

        run(story)

    def test_tokens_are_counted_as_prompts_are(self) -> None:
        """A number for each, and for a list a list."""
        one = post("/v1/tokenize", {"model": "small", "prompt": "Hello world"}).json()
        two = post("/v1/tokenize", {"model": "small", "prompt": ["Hello world", "x"]}).json()

        assert (one["count"], len(one["tokens"]), one["max_model_len"]) == (3, 3, 8_192)
        assert two["count"] == [3, 1]


class TestText:
    def test_an_answer_says_that_it_is_emulated(self) -> None:
        """Near its start, and again for the same question; another question or seed has another answer."""
        said = [write("why?", seed=seed, choice=0, ceiling=4_000) for seed in (0, 0, 1)]

        assert said[0].text().startswith("This is an emulated answer; no model wrote it.")
        assert said[0] == said[1] != said[2]
        assert said[0] != write("who?", seed=0, choice=0, ceiling=4_000)

    def test_lengths_are_log_normal_around_the_median(self) -> None:
        """Half of them are shorter, and the middle two thirds lie within a factor of two."""
        lengths = sorted(draw(str(number), 0, 0)[0] for number in range(2_000))

        assert lengths[1_000] == pytest.approx(MEDIAN, rel=0.08)
        assert lengths[1_683] / lengths[1_000] == pytest.approx(np.exp(0.7), rel=0.15)

    def test_an_instruction_in_front_does_not_change_the_answer(self) -> None:
        """Only what the user said last is hashed."""
        system = {"role": "system", "content": "Answer in at most 64 tokens."}
        plain, told = post("/v1/chat/completions", HI), post("/v1/chat/completions", {**HI, "messages": [system, *HI["messages"]]})

        assert plain.json()["choices"] == told.json()["choices"]

    @given(st.text())
    def test_pieces_make_up_the_text(self, text: str) -> None:
        """Nothing is lost, and there are as many numbers as tokens counted."""
        assert "".join(pieces(text)) == text
        assert len(ids(text)) == count(text)

    @pytest.mark.parametrize(
        ("schema", "value"),
        [
            ({"type": "string"}, "emulated"),
            ({"type": "string", "maxLength": 3}, "emu"),
            ({"type": "string", "minLength": 10}, "emulatedxx"),
            ({"type": ["null", "integer"]}, 1),
            ({"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}, 5),
            ({"type": "integer", "maximum": 0}, 0),
            ({"type": "number", "minimum": 0.5, "maximum": 0.75}, 0.625),
            ({"type": "boolean"}, True),
            ({"type": "null"}, None),
            ({"enum": ["a", "b"]}, "a"),
            ({"const": 7}, 7),
            ({"type": "array", "items": {"enum": [3]}, "minItems": 2}, [3, 3]),
            ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
            ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"const": 1}}}, {"a": 1}),
            ({"allOf": [{"type": "object", "properties": {"a": {"const": 1}}}], "properties": {"b": {"const": 2}}}, {"a": 1, "b": 2}),
            ({"type": "object", "required": ["a"]}, {"a": "emulated"}),
        ],
    )
    def test_a_document_fits_its_schema(self, schema: dict[str, Any], value: Any) -> None:
        """The basics: types, enums, bounds, references, what is required."""
        assert document(schema) == value

    def test_a_schema_that_contains_itself_comes_to_an_end(self) -> None:
        """What need not be there is left out when it gets deep."""
        node = {"type": "object", "properties": {"v": {"const": 1}, "next": {"$ref": "#/$defs/N"}}, "required": ["v"]}

        assert document({"$ref": "#/$defs/N", "$defs": {"N": node}})["next"]["v"] == 1


@contextlib.contextmanager
def listening(time_scale: float) -> Iterator[str]:
    """A real server on a real socket."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = build(PROFILE, time_scale=time_scale)
        config = uvicorn.Config(app, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A hundred times faster than real."""
    with listening(0.01) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0, _strict_response_validation=True) as client:
        yield client


class TestOpenAI:
    """The official client, strict about what it is sent."""

    def test_chat(self, client: openai.OpenAI) -> None:
        """Whole and streamed, they say the same."""
        whole = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Hi"}], n=2, logprobs=True, top_logprobs=3
        )
        stream = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "Hi"}], stream=True, stream_options={"include_usage": True}
        )

        chunks = list(stream)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == whole.choices[0].message.content
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == len(pieces(said))

    def test_tools(self, client: openai.OpenAI) -> None:
        """A named function is called."""
        body = client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Hi"}],
            tools=[{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}],
            tool_choice={"type": "function", "function": {"name": "b"}},
        )

        calls = body.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert calls[0].function.name == "b"

    def test_completions(self, client: openai.OpenAI) -> None:
        """With probabilities."""
        body = client.completions.create(model="small", prompt="The sea is", max_tokens=8, logprobs=2)

        assert body.choices[0].finish_reason == "length"
        assert body.usage is not None
        assert body.usage.completion_tokens == 8

    def test_embeddings(self, client: openai.OpenAI) -> None:
        """Unit vectors, the same each time, as long as asked."""
        numbers = client.embeddings.create(model="small", input=["a", "b"], encoding_format="float", dimensions=32)
        unasked = client.embeddings.create(model="small", input="a", dimensions=32)

        assert [one.index for one in numbers.data] == [0, 1]
        assert np.linalg.norm(numbers.data[1].embedding) == pytest.approx(1.0, rel=1e-5)
        assert numbers.data[0].embedding == pytest.approx(unasked.data[0].embedding)
        assert numbers.data[0].embedding != numbers.data[1].embedding
        assert len(client.embeddings.create(model="small", input="a").data[0].embedding) == 1024

    def test_responses(self, client: openai.OpenAI) -> None:
        """Whole and streamed, they say the same; one that is cut says so."""
        whole = client.responses.create(model="small", input="Hi")
        seen = list(client.responses.create(model="small", input="Hi", stream=True))
        cut = client.responses.create(model="small", input=[{"role": "user", "content": "Hi"}], max_output_tokens=3)

        assert whole.status == "completed"
        assert whole.usage is not None
        assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == whole.output_text
        assert [event.sequence_number for event in seen] == list(range(len(seen)))
        assert seen[-1].type == "response.completed"
        assert seen[-1].response.output_text == whole.output_text
        assert (cut.status, cut.output_text) == ("incomplete", "This is an")

    def test_models(self, client: openai.OpenAI) -> None:
        """The one there is."""
        assert [model.id for model in client.models.list()] == ["org/Small-1B"]


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_empties_the_server(stream: bool) -> None:
    """A closed socket takes its request with it, though the answer would go on for a minute."""
    ask = {"messages": HI["messages"], "ignore_eos": True, "stream": stream, "max_tokens": 8_000}

    with listening(1.0) as address, httpx.Client(base_url=address) as probe:

        def running() -> int:
            found: int = probe.get("/v1/loads").json()["loads"][0]["num_running_reqs"]
            return found

        before = running()
        with contextlib.suppress(httpx.ReadTimeout), httpx.stream("POST", f"{address}/v1/chat/completions", json=ask, timeout=0.3) as reply:
            body = reply.iter_bytes()  # without a name it would be closed at once
            assert next(body)
            assert running() == 1
        deadline = time.monotonic() + 5
        while running() and time.monotonic() < deadline:
            pass

        assert (before, running()) == (0, 0)


def test_exact_embeddings_are_base64_when_so_asked() -> None:
    """As SGLang answers: the same numbers, as little-endian float32."""

    async def story() -> None:
        world = World()
        numbers = (await world.post("/v1/embeddings", {"model": "small", "input": "a", "dimensions": 8})).json()
        encoded = (
            await world.post("/v1/embeddings", {"model": "small", "input": "a", "dimensions": 8, "encoding_format": "base64"})
        ).json()

        read = np.frombuffer(base64.b64decode(encoded["data"][0]["embedding"]), dtype="<f4")
        assert read == pytest.approx(numbers["data"][0]["embedding"])

    run(story)
