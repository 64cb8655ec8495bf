"""A judge: a sample of answers is scored by another model, through LiteLLM. Off unless the config names one.

The only place of the proxy where text is looked at beyond deciding, and none of it is kept: a prompt and its answer wait in memory, for
one question at a time, and are gone when it is answered; the score goes to the replay log. Traffic never waits: when the queue is full, the
rate is spent, or the cap has no room, an answer is not judged.
"""

import asyncio
import logging
import secrets
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bestserve.policy.facts import FREE, Tariff

from .config import Config, JudgeConfig
from .dialects import judging, providers
from .dialects.dialect import PATHS
from .errors import BackendFailure, Failure
from .gates import FILE
from .memory import Memory
from .metrics import Metrics
from .provider import Provider
from .purse import Caps, Hold, Purse
from .watch import MOST_KEPT
from .wire import Timeouts

log = logging.getLogger("bestserve")

ACCOUNT = "judge:"
"""In the book of what was paid; no backend can have this name."""

MOST_WAITING = 64
MOST_BYTES = MOST_KEPT
"""Of a prompt, and of an answer. A longer one is not judged."""

ANSWER_S = 60.0
CHARS_PER_TOKEN = 2.0
"""At least, where money is set aside."""

TIMEOUTS = Timeouts(5.0, ANSWER_S, ANSWER_S, ANSWER_S)


@dataclass(frozen=True, slots=True)
class Case:
    """An answer that is to be judged."""

    decision: str
    caller: str
    prompt: bytes  # a chat's messages or a completion's prompt, as JSON
    answer: bytes
    stream: bool


@dataclass(slots=True)
class Judge:
    """Of one process. `wants` and `offer` are asked by requests, and never wait."""

    metrics: Metrics
    memory: Memory
    wall: Callable[[], float]
    draw: Callable[[], float]
    clock: Callable[[], float]
    _settings: JudgeConfig | None = None
    _state_dir: Path = Path()
    _waiting: deque[Case] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    has_asked: bool = False  # LiteLLM was loaded
    _asked_at: deque[float] = field(default_factory=deque)  # in the last minute

    def adopt(self, config: Config) -> None:
        """Judge by another config from now on."""
        self._settings, self._state_dir = config.judge, config.state_dir
        if self._settings is None:
            self._waiting.clear()

    def wants(self) -> bool:
        """To be asked when an answer begins: whether it will be judged, if it ends well."""
        return self._settings is not None and self.draw() < self._settings.sample

    def offer(self, case: Case) -> None:
        """Judge this, when there is time for it."""
        if self._settings is None:
            return
        if len(self._waiting) >= MOST_WAITING or max(len(case.prompt), len(case.answer)) > MOST_BYTES:
            self.metrics.judged("passed_over")
            return
        self._waiting.append(case)
        self._arrived.set()

    async def keep_judging(self) -> None:
        """One case after another, forever."""
        bench: _Bench | None = None
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    case, settings = self._waiting.popleft(), self._settings
                    if settings is None or not self._has_time(settings):
                        self.metrics.judged("passed_over")
                        continue
                    try:
                        if bench is None or bench.settings != settings:
                            gone, bench, self.has_asked = bench, _Bench(settings, self._state_dir), True
                            await _left(gone)
                        await self._judge(bench, case)
                    except Exception:
                        log.exception("judging failed; it goes on with the next answer")
                        self.metrics.judged("failed")
        finally:
            await _left(bench)

    def _has_time(self, settings: JudgeConfig) -> bool:
        now = self.clock()
        while self._asked_at and self._asked_at[0] <= now - 60:
            self._asked_at.popleft()
        if len(self._asked_at) >= settings.per_minute:
            return False
        self._asked_at.append(now)
        return True

    async def _judge(self, bench: "_Bench", case: Case) -> None:
        result = "failed"
        try:
            score, usd = await bench.ask(case, self.wall())
            self.metrics.judge_paid(usd)
            if score is None:
                result = "no_score"
            elif self.memory.judged(case.decision, case.caller, score):
                result = "scored"
        except _NoMoney:
            result = "over_budget"
        except (Failure, ImportError, OSError, ValueError, sqlite3.Error) as error:
            log.warning("an answer was not judged: %s", str(error) or type(error).__name__)
        except Exception as error:
            log.error("an answer was not judged: %s", type(error).__name__)  # noqa: TRY400
        self.metrics.judged(result)


class _NoMoney(Exception):
    """The cap has no room."""


class _Bench:
    """The judge by one config: its connections, and its account. Everything that blocks happens in a thread of its own."""

    def __init__(self, settings: JudgeConfig, state_dir: Path) -> None:
        self.settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._book = state_dir / FILE
        self._purse: Purse | None = None
        self._tariff = FREE
        self._provider: Provider | None = None

    async def ask(self, case: Case, wall: float) -> tuple[float | None, float]:
        """The score, if the judge gave one, and what it cost. Raises _NoMoney, Failure, ImportError, OSError, ValueError, sqlite3.Error."""
        if self._provider is None:
            self._tariff, self._provider = await self._aside(_connected, self.settings)
        body = await self._aside(_question, self.settings.model, case)
        held = await self._aside(self._hold, len(body), wall)
        usd = 0.0 if held is None else held.usd
        try:
            reply = await self._exchange(body)
            usage = judging.usage_of(reply)
            usd = usd if usage is None else self._tariff.usd(*usage)
        except BackendFailure:
            usd = 0.0
            raise
        finally:
            if held is not None and self._purse is not None:
                await self._aside(self._purse.settle, held, usd)
        with suppress(ValueError):
            return judging.score_of(reply), usd
        return None, usd

    async def _exchange(self, body: bytes) -> bytes:
        assert self._provider is not None
        answer = await self._provider.exchange("POST", PATHS["chat"], body)
        try:
            return await answer.whole()
        finally:
            answer.close()

    def _hold(self, n_bytes: int, wall: float) -> Hold | None:
        """Set aside the most that it may cost. Raises _NoMoney and sqlite3.Error."""
        if self._tariff == FREE:
            return None
        if self._purse is None:
            spend = self.settings.spend
            self._purse = Purse(self._book, {ACCOUNT: Caps(spend.usd_per_hour, spend.usd_per_day)})
        held = self._purse.hold(ACCOUNT, self._tariff.usd(n_bytes / CHARS_PER_TOKEN, judging.ANSWER_TOKENS), wall)
        if held is None:
            raise _NoMoney
        return held

    async def _aside(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def leave(self) -> None:
        """Let go of the book. LiteLLM keeps connections for all."""
        if self._purse is not None:
            await self._aside(self._purse.close)
        self._thread.shutdown(wait=False)


async def _left(bench: _Bench | None) -> None:
    if bench is not None:
        await bench.leave()


def _connected(settings: JudgeConfig) -> tuple[Tariff, Provider]:
    """What is paid, and to whom. LiteLLM is loaded for it, which takes seconds the first time. Raises ImportError and ValueError."""
    provider = Provider(settings.model, timeouts=TIMEOUTS, api_key=settings.api_key, options=settings.litellm)
    return settings.tariff or providers.known(settings.model).tariff or FREE, provider


def _question(model: str, case: Case) -> bytes:
    """Raises ValueError for what is no text."""
    asked, answered = judging.conversation(case.prompt), judging.answer(case.answer, stream=case.stream)
    if not answered.strip():
        raise ValueError("it has no text")
    return judging.question(model, asked, answered, f"<<{secrets.token_hex(6)}>>")
