"""The only file that knows LiteLLM: what of a request it is given, what it says back, what its errors mean, and what models cost.

Facts, from a real 1.106.2
    Importing it takes seconds, fetches prices from GitHub and reads a `.env` unless told not to, so it is loaded when a config names it.
    Its functions take everything as keyword arguments: an address, a key, a callback. So a request's fields are let through by name, and
    one that is not known is refused, for another backend may know it. It would fetch images that a request names by URL for some
    providers: only images that are in the request are let through. Chunks with usage have a choice too many.
"""

import contextlib
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import orjson

from bestserve.policy.facts import Tariff
from bestserve.proxy.errors import BadAsk, Refused

from .dialect import PATHS, Dialect, Said, clean, usual_reason

SAMPLING = frozenset({"frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty", "seed", "stop", "user"})
STREAMING = frozenset({"stream", "stream_options", "temperature", "top_p"})
TAKEN = {
    PATHS["chat"]: SAMPLING
    | STREAMING
    | {
        "function_call",
        "functions",
        "max_completion_tokens",
        "messages",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "tool_choice",
        "tools",
        "top_logprobs",
        "verbosity",
    },
    PATHS["completions"]: SAMPLING | STREAMING | {"best_of", "echo", "prompt", "suffix"},
    PATHS["embeddings"]: frozenset({"dimensions", "encoding_format", "input", "user"}),
}
"""The fields of a request that are handed on, by its path."""

LEFT_OUT = frozenset({"metadata", "model", "service_tier", "store"})
"""Fields that change no answer, or are ours to say."""

CALLS = {PATHS["chat"]: "acompletion", PATHS["completions"]: "atext_completion", PATHS["embeddings"]: "aembedding"}
"""The function that asks, by the request's path."""

NO_GATEWAY = {"_skip_mcp_handler": True}
"""Without it LiteLLM loads its own proxy to look for tools that it would call itself."""


def library() -> Any:
    """LiteLLM, loaded and quiet. Raises ImportError where it is not installed. The first time takes seconds."""
    from bestserve.proxy.config import tell_libraries

    tell_libraries()
    import litellm

    litellm.suppress_debug_info = True  # else it prints advice on standard output
    litellm.disable_streaming_logging = True
    litellm.num_retries = 0  # whoever fails is replaced, here, by another backend
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that, they tell what was sent
    lite: Any = litellm
    lite.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize  # at a hundred like pieces it would break off: a line of dashes is no error
    return lite


def keep_connections(lite: Any) -> None:
    """Give LiteLLM one pool of connections for all who speak OpenAI's API: for completions it would open one a request, and close none."""
    import httpx

    if lite.aclient_session is None:
        lite.aclient_session = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=100))


async def drop_connections(lite: Any) -> None:
    """Close what LiteLLM has kept."""
    session, lite.aclient_session = lite.aclient_session, None
    await lite.close_litellm_async_clients()
    lite.in_memory_llm_clients_cache.flush_cache()  # else it would give out what was closed
    if session is not None:
        await session.aclose()


@cache
def warm() -> None:
    """Let LiteLLM load what it loads at its first request, by one to nobody: it takes seconds, in which nothing else is served."""
    with contextlib.suppress(Exception):
        library().completion(model="openai/nobody", api_base=_NOBODY, api_key="none", max_retries=0, messages=[{"role": "user"}])


_NOBODY = "http://127.0.0.1:9/v1"
"""The discard port, where nobody listens."""


@dataclass(frozen=True, slots=True)
class Known:
    """What LiteLLM's table says of a model."""

    tariff: Tariff | None  # None: it has no price
    context: int | None
    capabilities: frozenset[str]


NOTHING = Known(None, None, frozenset())


def known(model: str) -> Known:
    """What is known of a model like `openai/gpt-4o-mini`. Raises ValueError for one whose provider LiteLLM does not know."""
    lite = library()
    try:
        lite.get_llm_provider(model)
    except Exception as error:
        raise ValueError(f"LiteLLM knows no provider of {model!r}; write it as PROVIDER/MODEL") from error
    try:
        said: Mapping[str, Any] = lite.get_model_info(model)
    except Exception:  # of its own kinds, which change
        return NOTHING
    offers = {"supports_function_calling": "tools", "supports_response_schema": "json", "supports_vision": "vision"}
    can = {ours for theirs, ours in offers.items() if said.get(theirs)} | ({"embeddings"} if said.get("mode") == "embedding" else set())
    return Known(_tariff(said), said.get("max_input_tokens") or None, frozenset(can))


def _tariff(said: Mapping[str, Any]) -> Tariff | None:
    prompt, answer = said.get("input_cost_per_token"), said.get("output_cost_per_token")
    return None if prompt is None or answer is None else Tariff(prompt, answer, said.get("cache_read_input_token_cost"))


def listener(
    succeeded: Callable[[Mapping[str, Any], Any, float, float | None], None], failed: Callable[[Mapping[str, Any], Exception, float], None]
) -> Any:
    """An object that LiteLLM tells of every call's end: metadata, answer, seconds, and those to the first token of a stream; or metadata,
    error, seconds."""
    from litellm.integrations.custom_logger import CustomLogger

    def done(self: Any, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime) -> None:
        first = kwargs.get("completion_start_time") if kwargs.get("stream") else None
        first_s = None if first is None else (first - start_time).total_seconds()
        succeeded(_metadata(kwargs), response_obj, (end_time - start_time).total_seconds(), first_s)

    def lost(self: Any, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime) -> None:
        failed(_metadata(kwargs), kwargs.get("exception") or Exception("failed"), (end_time - start_time).total_seconds())

    async def done_later(self: Any, *args: Any, **told: Any) -> None:
        done(self, *args, **told)

    async def lost_later(self: Any, *args: Any, **told: Any) -> None:
        lost(self, *args, **told)

    hears: dict[str, Any] = {"log_success_event": done, "log_failure_event": lost}
    hears |= {"async_log_success_event": done_later, "async_log_failure_event": lost_later}
    return type("Listener", (CustomLogger,), hears)()


def _metadata(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return (call.get("litellm_params") or {}).get("metadata") or {}


# --- what is asked ---


def arguments(path: str, body: bytes) -> dict[str, Any]:
    """What LiteLLM is given of a request. Raises Refused for one that it may not have, or would not pass on unharmed."""
    if path not in TAKEN:
        raise unfit(f"{path} is not offered by a provider behind LiteLLM.", "model")
    fields: dict[str, Any] = orjson.loads(body)
    given = {name: value for name, value in fields.items() if name not in LEFT_OUT and value is not None}
    for name in given.keys() - TAKEN[path]:
        raise unfit(f"'{name}' cannot be passed on to a provider.", name)
    for message in given.get("messages", ()):
        _inspect(message.get("content"))
    if any(not isinstance(tool, dict) or tool.get("type") != "function" for tool in given.get("tools", ())):
        raise unfit("Only tools of type 'function' can be passed on to a provider.", "tools")
    return given | NO_GATEWAY if path == PATHS["chat"] else given


def _inspect(content: object) -> None:
    """Raises Refused for a part that LiteLLM would fetch from somewhere."""
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        inside = part.get(kind) if isinstance(kind, str) else None
        if kind == "image_url" and isinstance(inside, dict) and str(inside.get("url", "")).startswith("data:"):
            continue
        if kind not in ("text", "input_audio", "refusal"):
            raise unfit("Only texts, audio, and images given as data: URLs can be passed on to a provider.", "messages")


def unfit(message: str, param: str | None = None) -> Refused:
    """The request is not for this backend; if no other takes it, the client is told why."""
    return Refused("unfit", status=400, message=message, rejection=BadAsk(message, param=param))


# --- what is said ---


def whole(answer: Any) -> bytes:
    """An answer in OpenAI's shape."""
    said = answer.model_dump(exclude_none=True)
    if "choices" in said:
        said["choices"] = [_choice(choice, "message") for choice in said["choices"]]
    return orjson.dumps({name: said[name] for name in _TOP if name in said})


async def events(chunks: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """A stream in OpenAI's shape, event by event."""
    async for chunk in chunks:
        said = chunk.model_dump(exclude_none=True)
        usage = _usage(said)
        choices = [_choice(choice, "delta") for choice in said["choices"]]
        told = {name: said[name] for name in _TOP if name in said and name != "usage"}
        if usage is None or any(choice["finish_reason"] or choice.get("delta") or choice.get("text") for choice in choices):
            yield _event({**told, "choices": choices})
        if usage is not None:
            yield _event({**told, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _usage(said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was counted. Chunks of completions say zeros until it has been."""
    usage: Mapping[str, Any] | None = said.get("usage")
    return usage if usage and usage.get("total_tokens") else None


_TOP = ("id", "object", "created", "model", "system_fingerprint", "choices", "data", "usage")


def _choice(choice: Mapping[str, Any], part: str) -> dict[str, Any]:
    """One choice without what only LiteLLM says."""
    kept = {name: choice.get(name) for name in ("index", "logprobs", "finish_reason")}
    if part not in choice:  # a completion's
        return {**kept, "text": choice.get("text") or ""}
    said = {name: value for name, value in choice[part].items() if name != "provider_specific_fields"}
    return {**kept, part: {"content": None, **said} if part == "message" else said}


def _event(said: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(said) + b"\n\n"


# --- what goes wrong ---


def failure_of(error: Exception) -> Refused:
    """What one of LiteLLM's errors means. Another backend may always do better: a provider's 400 holds for that provider."""
    name, status = type(error).__name__, _status(error)
    message = _PREFIX.sub("", clean(str(getattr(error, "message", None) or error)))
    if name == "ContextWindowExceededError":
        return Refused("context", status=status, message=message or "The request is longer than the provider's context.")
    if isinstance(error, TimeoutError) or name == "Timeout":
        return Refused("timeout", status=408)
    if status in (400, 413, 422):
        return unfit(message)
    if name == "APIConnectionError" or message.startswith("Connection error"):  # some come as a 500
        return Refused("connect_failed", status=status, message=message)
    reason = _reason(status, Said(message)) if status else "failed"
    return Refused(reason, status=status, message=message, retry_after_s=_retry_after_s(error))


def _reason(status: int, said: Said) -> str:
    spent = status == 402 or (status == 429 and "insufficient_quota" in said.message)
    return "quota_spent" if spent else usual_reason(status, said)


def _status(error: Exception) -> int:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else 0


def _retry_after_s(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = headers.get("retry-after", "")
    return float(said) if _SECONDS.fullmatch(said) else None


_SECONDS = re.compile(r"\d{1,6}(\.\d+)?")
_PREFIX = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Exception|Timeout)\s*[:-]\s*)+")

PROVIDER = Dialect("litellm", ready="", reports=(), over=lambda said: None, reason=_reason)
"""Nobody is asked whether he is there: that would cost money. What requests meet tells it."""
