"""The backend that is measured: what it says of itself, in which way it can be asked, and whether others use it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from bestserve.proxy.dialects import sglang
from bestserve.proxy.dialects.dialect import MODELS, Dialect, models_of
from bestserve.proxy.dialects.sglang import Limits
from bestserve.proxy.engines import ENGINES
from bestserve.proxy.errors import BackendFailure, Refused
from bestserve.proxy.upstream import Upstream
from bestserve.proxy.wire import Timeouts

from .ask import WAYS, Way, body, read
from .refuse import CannotMeasure
from .runs import Stream
from .script import Call

__all__ = ["Lookout", "Target", "reach"]

TIMEOUTS = Timeouts(connect_s=5.0, first_byte_s=300.0, idle_s=120.0, total_s=900.0)
QUIET_WITHIN_S = 10.0
LOOK_EVERY_S = 0.5
STALE_S = 5.0  # a report may be so old: what was ours then may be over


@dataclass(slots=True)
class Target:
    """One backend, and how it is asked."""

    upstream: Upstream
    model: str
    way: Way = WAYS[0]
    speaks: Dialect = ENGINES["openai"]
    clock: Callable[[], float] = time.perf_counter

    async def ask(self, call: Call, began: Callable[[], None] = lambda: None) -> Stream:
        """One call to its end; `began` is told of its first bytes. Raises BackendFailure."""
        pieces: list[tuple[float, bytes]] = []

        def take(data: bytes) -> None:
            pieces.append((self.clock(), data))
            began()

        asked, sent = body(self.way, self.model, call), self.clock()
        reply = await self.upstream.exchange("POST", self.way.path, asked, stream=True)
        try:
            if reply.status != 200:
                raise self.speaks.failure_of(reply.status, await reply.whole())
            await reply.pump(take)
        finally:
            reply.close()
        return read(self.speaks, sent, pieces)


async def reach(target: Target) -> Limits:
    """What the backend says of itself; and `target` set to what it speaks and the best way to ask. Raises CannotMeasure."""
    try:
        limits = await _limits(target)
        target.way = await _way(target)
    except BackendFailure as error:
        raise CannotMeasure(f"{target.upstream.url} cannot be asked: {error}") from error
    return limits


async def _limits(target: Target) -> Limits:
    status, told = await target.upstream.get(MODELS)
    models = models_of(told) if status == 200 else {}
    if models and target.model not in models:
        raise CannotMeasure(f"{target.upstream.url} serves {', '.join(models)}, not {target.model!r}")
    card = models.get(target.model, {})
    target.speaks = ENGINES.get(str(card.get("owned_by")), ENGINES["openai"])
    status, told = await target.upstream.get(sglang.INFO)
    limits = _understood(told) if status == 200 else Limits()
    limits = replace(limits, context=limits.context or card.get("max_model_len"))
    return await _reported(target, limits)


async def _reported(target: Target, limits: Limits) -> Limits:
    """The limits that its load report knows, too."""
    for path, understand in target.speaks.reports:
        status, told = await target.upstream.get(path)
        if status == 200:
            load = understand(told)
            device = sglang.accelerator_of(told) or limits.device
            running, tokens = load.max_running or limits.max_running, load.kv_tokens or limits.kv_tokens
            return replace(limits, max_running=running, kv_tokens=tokens, device=device)
    return limits


def _understood(body: bytes) -> Limits:
    try:
        return sglang.limits_of(body)
    except ValueError:  # somebody else's /server_info
        return Limits()


async def _way(target: Target) -> Way:
    """The first way that gives prompt and answer the lengths that were meant."""
    reasons = []
    for way in WAYS:
        target.way, call = way, Call(96, 12, seed=0)
        try:
            stream = await target.ask(call)
        except (BackendFailure, ValueError) as error:
            if isinstance(error, Refused) and error.status == 0:
                raise
            reasons.append(f"{way.name}: {error}")
            continue
        if (problem := _problem(way, call, stream)) is None:
            return replace(way, tokens_per_word=1.0 if way.ids else stream.prompt_tokens / call.prompt)
        reasons.append(f"{way.name}: {problem}")
    raise CannotMeasure("it cannot be asked in a way that shows lengths and times:\n  " + "\n  ".join(reasons))


def _problem(way: Way, call: Call, stream: Stream) -> str | None:
    if not stream.times:
        return "nothing came"
    if not stream.prompt_tokens:
        return "it does not say its usage (stream_options.include_usage)"
    if way.ids and stream.prompt_tokens != call.prompt:
        return f"a prompt of {call.prompt} token numbers counts as {stream.prompt_tokens} tokens"
    if stream.tokens != call.answer:
        return f"asked for {call.answer} tokens, {stream.tokens} came (does it know ignore_eos?)"
    if len(stream.times) < 2:
        return "all tokens came at once: nothing can be told of a step (does something between buffer the stream?)"
    return None


class Lookout:
    """Looks at the backend's load reports while we measure: what others have there is what is beyond ours."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ours = 0  # calls under way
        self.foreign = 0  # most seen beyond ours since it was last set to 0
        self.reports = True  # whether it says its load
        self._past: deque[tuple[float, int]] = deque()

    def sent(self) -> None:
        """One more of ours."""
        self.ours += 1
        self._past.append((self.target.clock(), self.ours))

    def over(self) -> None:
        """One less of ours."""
        self.ours -= 1
        self._past.append((self.target.clock(), self.ours))

    async def look(self) -> int | None:
        """Ask once: requests there beyond ours; None when it does not say."""
        for path, understand in self.target.speaks.reports:
            try:
                status, told = await self.target.upstream.get(path)
                if status == 200:
                    load = understand(told)
                    return max(load.running + load.waiting - self._most_ours(), 0)
            except (BackendFailure, ValueError):
                continue
        self.reports = False
        return None

    async def until_quiet(self) -> bool:
        """Wait until the backend has nothing to do: whether it was quiet at once. Raises CannotMeasure when it never is."""
        deadline, seen = self.target.clock() + QUIET_WITHIN_S, list[int]()
        while (foreign := await self.look()) is not None:
            seen.append(foreign)
            if len(seen) >= 2 and not any(seen[-2:]):
                return not any(seen)
            if self.target.clock() > deadline:
                raise CannotMeasure(
                    f"it is loaded by others: its reports showed {min(seen)} to {max(seen)} requests in {QUIET_WITHIN_S:.0f} s,"
                    " none of them ours. Measure a backend that nobody else uses"
                )
            await asyncio.sleep(LOOK_EVERY_S)
        return True

    async def keep_looking(self) -> None:
        """Look until cancelled; `foreign` is the most that was seen."""
        while self.reports:
            await asyncio.sleep(LOOK_EVERY_S)
            self.foreign = max(self.foreign, await self.look() or 0)

    def _most_ours(self) -> int:
        """The most that we had there lately."""
        since = self.target.clock() - STALE_S
        while len(self._past) > 1 and self._past[1][0] < since:
            self._past.popleft()
        return max((n for _, n in self._past), default=0)
