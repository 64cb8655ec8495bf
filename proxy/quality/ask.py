"""Asks a backend as the proxy would under a budget: the same cap, the same instruction at the same place. Any OpenAI-compatible server."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bestserve.policy.facts import Budget
from bestserve.proxy.dialects import openai
from bestserve.proxy.errors import AskFailure, BackendFailure
from bestserve.proxy.upstream import Reply, Upstream
from bestserve.proxy.wire import Timeouts

from .prompts import Prompt

PATH = "/v1/chat/completions"
WAITS_S = (1.0, 2.0, 4.0)
"""Before the second, third and fourth try, where the server does not say when."""

LONGEST_WAIT_S = 30.0
FINAL = (401, 403, 404)
AGAIN = (408, 429, 500, 502, 503, 504)


class Failed(Exception):
    """This prompt got no answer; the others may."""


class Hopeless(Exception):
    """No prompt will get an answer: the address, the model's name or the key is wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    text: str
    cut: bool
    tokens: int | None  # as the server counts them, thoughts included; None when it does not say


@dataclass(slots=True)
class Asker:
    """One backend, and what goes with every request."""

    url: str
    model: str
    api_key: str | None = None
    longest: int = 2048  # tokens, also where the budget sets no cap: a model that never ends must end
    extra: Mapping[str, Any] = field(default_factory=dict)
    upstream: Upstream = field(init=False)

    def __post_init__(self) -> None:
        root = self.url.rstrip("/").removesuffix("/v1")
        self.upstream = Upstream(root, timeouts=Timeouts(connect_s=5.0, total_s=1200.0), api_key=self.api_key)

    def body(self, prompt: Prompt, budget: Budget) -> bytes:
        """The request. It is all that the answer depends on, so the ledger knows it again by this."""
        asked = {"model": self.model, "messages": prompt.messages, "temperature": 0, "seed": 0, "max_tokens": self.longest, **self.extra}
        try:
            parsed = openai.parse("chat", orjson.dumps(asked))
        except AskFailure as failure:
            raise Hopeless(f"the request cannot be sent: {failure.message}") from failure
        cap = min(self.longest, budget.tokens or self.longest)
        return openai.forward(parsed, model=self.model, cap=cap, instruction=budget.instruction)

    async def ask(self, body: bytes) -> Answer:
        """Ask, and ask again where that may help. Raises Failed or Hopeless."""
        waits = iter(WAITS_S)
        while True:
            try:
                return await self._once(body)
            except _Later as later:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise Failed(str(later)) from later
                await asyncio.sleep(min(LONGEST_WAIT_S, wait_s if later.wait_s is None else later.wait_s))

    async def _once(self, body: bytes) -> Answer:
        try:
            reply = await self.upstream.exchange("POST", PATH, body)
            try:
                return _answer(reply, await reply.whole())
            finally:
                reply.close()
        except BackendFailure as failure:
            raise _Later(f"no answer: {failure}", None) from failure

    def close(self) -> None:
        self.upstream.close()


class _Later(Exception):
    """Not now; `wait_s` is when, if the server said so."""

    def __init__(self, why: str, wait_s: float | None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


def _answer(reply: Reply, body: bytes) -> Answer:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.headers}
    if reply.status != 200:
        raise _refusal(reply.status, headers, body)
    limit = headers.get("x-bestserve-budget", "none")
    if limit != "none":
        raise Failed(
            f"the proxy set a budget of {limit} tokens by itself: ask the backend directly, or let the proxy have no budget but none"
        )
    try:
        told = orjson.loads(body)
        choice, usage = told["choices"][0], told.get("usage") or {}
        return Answer(choice["message"].get("content") or "", choice.get("finish_reason") == "length", usage.get("completion_tokens"))
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise Failed("the answer is not a chat completion") from error


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    said = f"HTTP {status}: {_message(body)}"
    if status in FINAL:
        return Hopeless(said)
    if status in AGAIN and headers.get("x-should-retry") != "false":
        return _Later(said, _seconds(headers.get("retry-after")))
    return Failed(said)


def _message(body: bytes) -> str:
    """What an error says, in OpenAI's shape or in SGLang's older one."""
    try:
        told = orjson.loads(body)
        error = told.get("error", told)
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (orjson.JSONDecodeError, LookupError, AttributeError):
        return body[:200].decode("utf-8", "replace").strip() or "nothing was said"


def _seconds(after: str | None) -> float | None:
    try:
        wait = float(after or "")
    except ValueError:
        return None
    return wait if math.isfinite(wait) and wait >= 0 else None
