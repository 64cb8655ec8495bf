"""Neighbours that are not SGLang, behind the proxy: their health, their load, their ways of saying no."""

import asyncio
from pathlib import Path

import orjson
import pytest

from .world import chat, refuse, world

pytestmark = pytest.mark.anyio

GOLDEN = Path(__file__).parent.parent / "golden" / "vllm"
METRICS = (
    b'vllm:num_requests_running{engine="0"} 5.0\nvllm:num_requests_waiting{engine="0"} 2.0\nvllm:kv_cache_usage_perc{engine="0"} 0.25\n'
    b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0\n'
)


def said(name: str) -> dict:
    """The body of a real vLLM's reply."""
    return orjson.loads((GOLDEN / f"{name}.txt").read_bytes().partition(b"\r\n\r\n")[2])


async def test_the_load_of_a_vllm_is_in_the_view(tmp_path):
    """From its metrics, with the room that its memory has."""
    async with world(tmp_path, per_backend=", engine: vllm") as here:
        here.backends["a"].metrics = METRICS
        async with asyncio.timeout(5):
            while (load := here.serving.fleet.load_of("a")[0]) is None:
                await asyncio.sleep(0.01)
        assert (load.running, load.waiting, load.used_tokens, load.kv_tokens) == (5, 2, 4000, 16000)
        assert here.serving.fleet.view(here.serving.clock()).constants.kv_capacity[0] == 16000


@pytest.mark.parametrize("engine", ["vllm", "openai"])
async def test_neighbours_answer_and_stream(tmp_path, engine):
    """As any backend does."""
    async with world(tmp_path, per_backend=f", engine: {engine}") as here:
        assert (await (await here.ask(chat())).answer())["choices"][0]["message"]["content"] == "Hello from a"
        client = await (await here.ask(chat(stream=True))).head()
        assert b"[DONE]" in await client.body()
        assert here.endings == [("a", "done"), ("a", "done")]


async def test_a_vllm_that_is_down_is_seen(tmp_path):
    """By its own health page."""
    async with world(tmp_path, per_backend=", engine: vllm") as here:
        here.backends["a"].is_ready = False
        async with asyncio.timeout(5):
            while here.serving.backends_up()["a"]:
                await asyncio.sleep(0.01)


async def test_a_prompt_over_a_vllms_context_goes_elsewhere(tmp_path):
    """And where nobody has room the client is told the numbers, in OpenAI's shape."""
    async with world(tmp_path, per_backend=", engine: vllm") as here:
        here.backends["a"].script = refuse(400, said("err_prompt_over_ctx"))
        assert (await (await here.ask(chat())).answer())["choices"][0]["message"]["content"] == "Hello from b"

        here.backends["b"].script = refuse(400, said("err_prompt_over_ctx"))
        client = await here.ask(chat())
        error = (await client.answer())["error"]
        assert (client.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
        assert "2049 tokens, 1 more than the longest context here, which is 2048" in error["message"]


async def test_a_request_that_a_vllm_finds_at_fault_is_told_in_openais_shape(tmp_path):
    """Nobody else is asked."""
    async with world(tmp_path, per_backend=", engine: vllm") as here:
        here.backends["a"].script = refuse(400, said("err_temp"))
        client = await here.ask(chat(temperature=-1))
        error = (await client.answer())["error"]
        assert (client.status, error["param"]) == (400, "temperature")
        assert error["message"] == "temperature must be non-negative, got -1.0."
        assert here.endings == [("a", "rejected")]
