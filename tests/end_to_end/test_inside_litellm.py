"""Our policy as the routing strategy of a real `litellm.Router`, before servers on this machine."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bestserve.policy.facts import SLO
from bestserve.proxy.dialects import providers
from bestserve.proxy.inside_litellm import Strategy, install
from tests.with_litellm import WITH_LITELLM

from .world import Backend, nothing, refuse, stream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240), *WITH_LITELLM]

HI = [{"role": "user", "content": "hi"}]
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "litellm_router.py"
QUALITY = {"a": 0.4, "b": 0.9}


@contextlib.asynccontextmanager
async def routed(
    num_retries: int = 0, params: dict[str, Any] | None = None, **how: Any
) -> AsyncIterator[tuple[Any, Strategy, dict[str, Backend]]]:
    """A Router before a worse backend a and a better one b, and its strategy."""
    lite = providers.library()
    backends = {name: Backend(name) for name in ("a", "b")}
    rows = []
    for name, backend in backends.items():
        await backend.start()
        base = f"http://127.0.0.1:{backend.port}/v1"
        rows.append(
            {
                "model_name": "chat",
                "litellm_params": {"model": "openai/m", "api_base": base, "api_key": "none", "max_retries": 0}
                | (params or {} if name == "b" else {}),
                "model_info": {"id": name, "profile": "qwen3-8b-h100", "quality": QUALITY[name]},
            }
        )
    router = lite.Router(model_list=rows, num_retries=num_retries, retry_after=0)
    try:
        yield router, install(router, **how), backends
    finally:
        router.reset()
        lite.callbacks.clear()
        for backend in backends.values():
            await backend.stop()
        await providers.drop_connections(lite)


async def settled(strategy: Strategy) -> None:
    async with asyncio.timeout(5):
        while any(strategy.fleet.in_flight().values()):
            await asyncio.sleep(0.01)


async def test_the_better_one_answers_and_the_books_return_to_zero():
    """LiteLLM tells how each call ended."""
    async with routed() as (router, strategy, backends):
        for _ in range(3):
            assert (await router.acompletion(model="chat", messages=HI)).choices[0].message.content == "Hello from b"
        await settled(strategy)
        assert (len(backends["a"].got), len(backends["b"].got)) == (0, 3)
        assert max(map(max, strategy.fleet.books())) == pytest.approx(0, abs=1e-6)


async def test_a_price_that_is_not_worth_it_is_not_paid():
    """By LiteLLM's own words for it."""
    async with routed(params={"input_cost_per_token": 0.0, "output_cost_per_token": 0.01}) as (router, _, _backends):
        assert (await router.acompletion(model="chat", messages=HI)).choices[0].message.content == "Hello from a"


async def test_who_is_busy_is_spared():
    """While the better one has more to do than it can in time, the other is asked."""
    async with routed(slo=SLO(ttft_s=0.1, tpot_s=0.012)) as (router, strategy, backends):
        backends["b"].script = nothing
        waiting = [asyncio.ensure_future(router.acompletion(model="chat", messages=HI)) for _ in range(200)]
        async with asyncio.timeout(60):
            while len(backends["b"].got) + len(backends["a"].got) < 200:
                await asyncio.sleep(0.01)
        assert len(backends["a"].got) > 0
        assert strategy.fleet.in_flight()["b"] > 0
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_fails_is_not_asked_again_for_the_same_request():
    """LiteLLM retries, and the policy chooses among the others."""
    async with routed(num_retries=1) as (router, strategy, backends):
        backends["b"].script = refuse(500)
        assert (await router.acompletion(model="chat", messages=HI)).choices[0].message.content == "Hello from a"
        await settled(strategy)
        assert (len(backends["a"].got), len(backends["b"].got)) == (1, 1)


async def test_a_stream_tells_how_long_its_first_token_took():
    """What is learnt is what was seen."""
    async with routed() as (router, strategy, backends):

        async def late(got, writer) -> None:
            await asyncio.sleep(0.3)
            await stream("x", "y", "z")(got, writer)

        before = strategy.fleet.view(time.monotonic()).columns.pace_first[1]
        backends["b"].script = late
        for _ in range(3):
            answer = await router.acompletion(model="chat", messages=HI, stream=True)
            assert "".join([c.choices[0].delta.content or "" async for c in answer]) == "xyz"
            await settled(strategy)
        assert strategy.fleet.view(time.monotonic()).columns.pace_first[1] > 1.2 * before


async def test_what_nothing_is_heard_of_is_closed_after_a_while():
    """Who leaves in the middle is told to nobody."""
    now = [0.0]
    async with routed(timeout_s=10.0, clock=lambda: now[0]) as (_, strategy, _backends):
        strategy.get_available_deployment("chat", messages=HI, request_kwargs={})
        now[0] = 5.0
        strategy.get_available_deployment("chat", messages=HI, request_kwargs={})
        assert sum(strategy.fleet.in_flight().values()) == 2
        now[0] = 11.0
        strategy.get_available_deployment("chat", messages=HI, request_kwargs={})
        assert sum(strategy.fleet.in_flight().values()) == 2


async def test_a_model_that_nobody_has_is_an_error_of_litellms():
    """Which its callers know."""
    async with routed() as (_, strategy, _backends):
        with pytest.raises(providers.library().RateLimitError, match="no deployment of 'other'"):
            strategy.get_available_deployment("other", messages=HI, request_kwargs={})


async def test_the_example_runs():
    """As it says on its head, before two servers."""
    backends = Backend("a"), Backend("b")
    for backend in backends:
        await backend.start()
    words = [sys.executable, str(EXAMPLE), *(f"http://127.0.0.1:{b.port}/v1" for b in backends)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    for backend in backends:
        await backend.stop()
    assert process.returncode == 0, err.decode()
    first, second = out.decode().splitlines()
    assert first == "1 at once: {'qwen3-32b-h100': 1}"
    assert second.startswith("300 at once: ")
    assert sum(len(b.got) for b in backends) == 301
