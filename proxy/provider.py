"""A backend behind LiteLLM: what `Upstream` and `Reply` are for one behind a socket. The same walk asks both.

LiteLLM builds an object for every chunk, which takes about a millisecond of the process (docs/overflow.md): a provider that speaks
OpenAI's API is better asked directly, as `engine: openai`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from .dialects import providers
from .dialects.dialect import Dialect
from .errors import BackendFailure, Broke, Refused
from .upstream import Reply, Upstream
from .wire import Headers, Sink, Timeouts

REDACTED = "…"
CLOSE_S = 5.0
"""Longest that a hang-up may take."""


class Provider:
    """One model of one provider."""

    speaks: Dialect = providers.PROVIDER

    def __init__(self, model: str, *, timeouts: Timeouts, api_key: str | None, options: Mapping[str, Any]) -> None:
        self.timeouts = timeouts
        self._lite = providers.library()
        providers.keep_connections(self._lite)
        providers.warm()
        self._fixed = {**options, "model": model, "num_retries": 0, "max_retries": 0, "timeout": timeouts.total_s}
        self._fixed |= {} if api_key is None else {"api_key": api_key}
        self._secret = api_key
        self._open = 0
        self._closing: set[asyncio.Task[None]] = set()

    async def exchange(self, method: str, path: str, body: bytes = b"", *, stream: bool = False) -> "ProviderReply":
        """Ask, and return once the answer begins, or is here when it is not streamed. Raises Refused.

        The caller must `close` the answer, whatever happens.
        """
        asked = providers.arguments(path, body)
        ask = getattr(self._lite, providers.CALLS[path])
        now = asyncio.get_running_loop().time()
        self._open += 1
        try:
            async with asyncio.timeout(self.timeouts.first_byte_s if stream else self.timeouts.total_s):
                answer = await ask(**{**self._fixed, **asked})  # a request's own word holds over what the config says for all
        except asyncio.CancelledError:
            self._open -= 1
            raise
        except Exception as error:
            self._open -= 1
            raise self._failure(error) from None  # its traceback may hold what was sent
        return ProviderReply(self, answer, stream=stream, begun=now)

    async def get(self, path: str) -> tuple[int, bytes]:
        """There is nothing to get."""
        raise Refused("no_such_path", status=404)

    def close(self) -> None:
        """Open answers go on until they are closed."""

    @property
    def n_open(self) -> int:
        """Answers under way, those that are being hung up on included."""
        return self._open + len(self._closing)

    def _failure(self, error: Exception) -> Refused:
        failure = providers.failure_of(error)
        return failure if self._secret is None else redacted(failure, self._secret)

    def _finished(self, chunks: Any) -> None:
        """Hang up. That has to be waited for, which the caller cannot, so a task does."""
        self._open -= 1
        if chunks is not None:
            task = asyncio.get_running_loop().create_task(_hang_up(chunks))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class ProviderReply:
    """An answer: all of it, or event by event."""

    status = 200

    def __init__(self, provider: Provider, answer: Any, *, stream: bool, begun: float) -> None:
        self.headers: Headers = [(b"content-type", b"text/event-stream; charset=utf-8" if stream else b"application/json")]
        self._provider: Provider | None = provider
        self._timeouts = provider.timeouts
        self._chunks = answer if stream else None
        self._events: AsyncIterator[bytes] = providers.events(answer) if stream else _once(providers.whole(answer))
        self._first_by = begun + self._timeouts.first_byte_s
        self._end_by = begun + self._timeouts.total_s
        self._begun = False
        self._over = False

    async def read(self) -> bytes:
        """The next event; b"" at the end. Raises Refused before the first one, Broke after it."""
        assert self._provider is not None, "read after close"
        now = asyncio.get_running_loop().time()
        by = min(self._end_by, now + self._timeouts.idle_s if self._begun else self._first_by)
        try:
            async with asyncio.timeout_at(by):
                event = await anext(self._events, b"")
        except BackendFailure:
            raise
        except Exception as error:
            failure = self._provider._failure(error)  # noqa: SLF001  the two are one thing in two parts
            raise (Broke(failure.reason) if self._begun else failure) from None
        self._begun, self._over = True, not event
        return event

    async def pump(self, sink: Sink) -> None:
        """Hand every event to `sink`, until the end. Raises Broke, and what `sink` raises."""
        while event := await self.read():
            blocked = sink(event)
            if blocked is not None:
                await blocked

    async def whole(self, most: int = 64 * 1024 * 1024) -> bytes:
        """All of it at once. Raises Broke, also when it is longer than `most` bytes."""
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        if sum(map(len, pieces)) > most:
            raise Broke(f"the answer is longer than {most} bytes")
        return b"".join(pieces)

    def close(self) -> None:
        """Hang up if the answer is not over. May be called again."""
        if self._provider is not None:
            provider, self._provider = self._provider, None
            provider._finished(None if self._over else self._chunks)  # noqa: SLF001


Source = Upstream | Provider
"""Whoever can be asked."""

Answer = Reply | ProviderReply


async def leave() -> None:
    """Close the connections that LiteLLM has kept. They are shared by all Providers of the process."""
    await providers.drop_connections(providers.library())


def redacted(failure: Refused, secret: str) -> Refused:
    """The same without a key that a provider repeats."""
    failure.args = tuple(str(part).replace(secret, REDACTED) for part in failure.args)
    if failure.rejection is not None:
        failure.rejection.message = failure.rejection.message.replace(secret, REDACTED)
    return failure


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


async def _hang_up(chunks: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_S):
            await chunks.aclose()
