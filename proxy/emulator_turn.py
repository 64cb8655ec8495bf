"""An engine turned in scaled real time: who is in it, and how many tokens each of them may see by now.

One task turns the engine while there is somebody to serve. Each turn takes a step in the engine's time, sleeps until that step would
be over on the wall, and only then shows what it brought: requests hold a Seat and see `made`, the tokens they have by now. Instants
are absolute, so a late turn makes the next sleep shorter and nothing drifts; a turn that is far behind, or whose step is shorter than
QUANTUM_S, takes several decode steps at once. A stream writes what is new in one piece, however many tokens that is.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from bestserve.policy import engine
from bestserve.profiles.schema import Profile

from .emulator_ask import Wanted
from .emulator_prefix import Prefixes

__all__ = ["QUANTUM_S", "Clock", "Emulator", "Seat", "Sleep"]

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]

QUANTUM_S = 0.001
"""Shortest sleep worth having, in seconds of the wall."""

_TOTALS = ("prompt_tokens_total", "generation_tokens_total", "num_requests_total", "num_aborted_requests_total")


class Seat:
    """What one request sees of its work in the engine."""

    __slots__ = ("aborted", "changed", "each", "made", "over", "whole")

    def __init__(self, whole: tuple[int, ...], *, each: bool) -> None:
        self.whole = whole  # tokens that there will be, by choice
        self.made = (0,) * len(whole)  # tokens shown by now
        self.over = False  # nothing more will come
        self.aborted = False
        self.each = each  # whether every token is worth waking for
        self.changed = asyncio.Event()


class Emulator:
    """One engine, turned in scaled real time, and the seats of those it serves."""

    def __init__(
        self,
        profile: Profile,
        *,
        clock: Clock,
        sleep: Sleep,
        time_scale: float,
        served_model: str | None,
        seed: int,
        wall: Clock,
        noise: float,
        prefix_cache: bool,
    ) -> None:
        if time_scale <= 0:
            raise ValueError(f"time_scale must be greater than 0, is {time_scale}")
        self.profile = profile
        self.model = served_model or profile.model
        self.seed = seed
        self.wall = wall
        self.started = int(wall())
        self.state = engine.State(profile.engine)
        self.figures: dict[str, Any] = {"prefill_tokens": 0, "prefill_s": 0.0, "moments": [0.0] * 6, "throughput": 0.0}
        self.totals = {stream: dict.fromkeys(_TOTALS, 0) for stream in (False, True)}
        self.prefixes = Prefixes(profile.engine.kv_tokens) if prefix_cache else None
        self._clock, self._sleep, self._scale = clock, sleep, time_scale
        self._noise, self._dice = noise, random.Random(seed)  # noqa: S311  noise that repeats is wanted
        self._seats: dict[str, Seat] = {}
        self._turning: asyncio.Task[None] | None = None
        self._window = (0.0, 0)  # since when tokens are counted for the throughput, and how many

    async def arrive(self) -> None:
        """Let pass what a request takes beside the engine."""
        if self.profile.engine.overhead_s:
            await self._sleep(self.profile.engine.overhead_s * self._scale)

    def cached(self, wanted: Wanted) -> int:
        """Tokens of a prompt that are remembered; from now on, all of them."""
        return 0 if self.prefixes is None else min(self.prefixes.read(wanted.prompt), wanted.prompt_tokens - 1)

    def enter(self, job: engine.Job, *, each: bool) -> Seat:
        """Queue a job. Raises QueueFull, or ValueError for one that cannot be served."""
        if job.id in self._seats:
            raise ValueError(f"Duplicate request ID detected: {job.id}")
        engine.submit(self.state, job)
        seat = self._seats[job.id] = Seat(job.answers, each=each)
        if self._turning is None or self._turning.done():
            self._turning = asyncio.get_running_loop().create_task(self._turn())
        return seat

    def leave(self, id: str, wanted: Wanted) -> None:  # noqa: A002
        """Take a request out, wherever it is by now."""
        seat, total = self._seats.pop(id), self.totals[wanted.stream]
        cut = engine.abort(self.state, id) or seat.aborted
        total["num_requests_total"] += 1
        total["num_aborted_requests_total"] += cut
        total["prompt_tokens_total"] += wanted.prompt_tokens
        total["generation_tokens_total"] += sum(seat.made)

    def abort(self, id: str | None = None) -> None:  # noqa: A002
        """End one request, or all of them, where they are."""
        for name in [id] if id is not None else list(self._seats):
            if engine.abort(self.state, name):
                seat = self._seats[name]
                seat.aborted = seat.over = True
                seat.changed.set()

    async def _turn(self) -> None:
        """Step until there is nobody, each step beginning where the one before ended."""
        due = self._clock() / self._scale
        self._window = (due, 0)
        while True:
            behind = max(self._clock() / self._scale - due, 0.0)
            limit = engine.steps_within(self.state, behind + QUANTUM_S / self._scale)
            if (done := engine.step(self.state, due, limit)) is None:
                break
            done = self._disturbed(done)
            due = done.ends_at
            await self._sleep(max(due * self._scale - self._clock(), 0.0))
            self._count(done)
            self._show(done)
        self.figures["throughput"] = 0.0

    def _disturbed(self, done: engine.Step) -> engine.Step:
        """A step with noise on its time: log-normal with mean 1, independent for each decode step."""
        if not self._noise:
            return done
        sigma = self._noise / math.sqrt(max(done.decode_steps, 1))
        longer = done.duration_s * (math.exp(sigma * self._dice.gauss(0, 1) - sigma * sigma / 2) - 1)
        return replace(done, duration_s=done.duration_s + longer, ends_at=done.ends_at + longer)

    def _show(self, done: engine.Step) -> None:
        """Let everybody see what is there now."""
        for id, made in engine.progress(self.state):  # noqa: A001
            seat = self._seats[id]
            if seat.made != made:
                seat.made = made
                if seat.each:
                    seat.changed.set()
        for id in done.finished:  # noqa: A001
            if (left := self._seats.get(id)) is not None:
                left.made, left.over = left.whole, True
                left.changed.set()

    def _count(self, done: engine.Step) -> None:
        """Keep the figures that /v1/loads shows. Decode moments: steps, sequences, µs, sequences², sequences µs, tokens."""
        if done.decode_steps:
            took, n = done.duration_s * 1e6, done.tokens // done.decode_steps
            new = (done.decode_steps, done.tokens, took, done.tokens * n, took * n, done.tokens)
            self.figures["moments"] = [old + more for old, more in zip(self.figures["moments"], new, strict=True)]
        self.figures["prefill_tokens"] += done.prefill_tokens
        self.figures["prefill_s"] += done.duration_s if done.prefill_tokens else 0.0
        since, tokens = self._window
        self._window = (since, tokens + done.tokens)
        if done.ends_at - since >= 1.0:
            self.figures["throughput"] = (tokens + done.tokens) / (done.ends_at - since)
            self._window = (done.ends_at, 0)
