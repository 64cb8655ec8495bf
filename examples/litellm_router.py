"""bestserve's policy inside a `litellm.Router`: two models under one name, and per request the one whose answer is worth most on time.

    pip install 'bestserve[providers]'
    python examples/litellm_router.py http://127.0.0.1:30000/v1 http://127.0.0.1:30001/v1

The addresses are of two servers with OpenAI's API; without them, two emulated ones are started here.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bestserve.policy.facts import SLO
from bestserve.proxy.dialects.providers import library
from bestserve.proxy.inside_litellm import install

SMALL, LARGE = "qwen3-1.7b-h100", "qwen3-32b-h100"


def router_of(small: str, large: str) -> Any:
    """A Router that chooses by our policy. What it has to know of a deployment stands in its `model_info`."""
    rows = [
        {
            "model_name": "chat",
            "litellm_params": {"model": "openai/m", "api_base": base, "api_key": "none", "max_retries": 0},
            "model_info": {"id": profile, "profile": profile},
        }
        for profile, base in ((SMALL, small), (LARGE, large))
    ]
    router = library().Router(model_list=rows, num_retries=1)
    install(router, slo=SLO(ttft_s=1.0, tpot_s=0.06), policy="deadline-greedy")
    return router


async def ask(router: Any, n: int) -> Counter[str]:
    """Ask n questions at once; who answered how many."""
    messages = [{"role": "user", "content": "Write a short story about a lighthouse."}]
    answers = await asyncio.gather(*(router.acompletion(model="chat", messages=messages, max_tokens=64) for _ in range(n)))
    return Counter(answer._hidden_params["model_id"] for answer in answers)  # noqa: SLF001  where LiteLLM says it


@contextlib.contextmanager
def emulated(profile: str) -> Iterator[str]:
    """A stand-in for a server, timed by a profile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "bestserve.proxy", "emulate", "--profile", profile, "--port", str(port), "--model", "m"]
    process = subprocess.Popen(words)  # noqa: S603  our own words
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """One question alone, then many at once."""
    with contextlib.ExitStack() as stack:
        bases = sys.argv[1:3] or [stack.enter_context(emulated(profile)) for profile in (SMALL, LARGE)]

        async def talk() -> None:
            router = router_of(*bases)
            for n in (1, 300):
                print(f"{n} at once:", dict(await ask(router, n)))
            await library().close_litellm_async_clients()

        asyncio.run(talk())


if __name__ == "__main__":
    main()
