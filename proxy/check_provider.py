"""What `bestserve check` finds out about a provider: it is asked for a few tokens, as there is no other way to know."""

import asyncio

import orjson

from .config import BackendConfig
from .dialects.dialect import PATHS
from .errors import BackendFailure, Refused
from .provider import Provider
from .wire import Timeouts

ANSWER_TOKENS = 16
"""Some providers refuse to write fewer."""

ASK_S = 30.0


async def problems_of(backend: BackendConfig, timeouts: Timeouts) -> list[str]:
    """Ask once; what is wrong, in words that name the key to correct. Nothing, where it answered."""
    provider = Provider(backend.model, timeouts=timeouts, api_key=backend.api_key, options=backend.litellm)
    path, asked = _question(backend)
    try:
        async with asyncio.timeout(ASK_S):
            reply = await provider.exchange("POST", path, orjson.dumps(asked))
        try:
            await reply.whole()
        finally:
            reply.close()
    except TimeoutError:
        return [f"did not answer within {ASK_S:g} s"]
    except Refused as refusal:
        return [plainly(refusal, backend.model)]
    except BackendFailure as error:
        return [f"broke off: {error}"]
    return []


def _question(backend: BackendConfig) -> tuple[str, dict[str, object]]:
    if backend.facts().capabilities == {"embeddings"}:
        return PATHS["embeddings"], {"input": "hi"}
    return PATHS["chat"], {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": ANSWER_TOKENS}


def plainly(refusal: Refused, model: str) -> str:
    """A refusal as what to do about it."""
    said = f" ({refusal})" if str(refusal) != refusal.reason else ""
    match refusal.reason:
        case "unauthorized":
            return f"refuses our key: set backends[].api_key{said}"
        case "no_such_path":
            return f"knows no model {model!r}: correct backends[].model{said}"
        case "quota_spent":
            return f"our account there is spent{said}"
        case "rate_limited":
            return f"limits our rate now: set backends[].requests_per_minute below its limit{said}"
        case "connect_failed":
            return f"cannot be reached: look at backends[].litellm.api_base{said}"
        case "timeout":
            return "did not answer in time: look at timeouts, or at the provider"
        case _:
            return f"refuses a request of a few words: {refusal.reason}{said}"
