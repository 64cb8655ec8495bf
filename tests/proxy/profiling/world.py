"""Scripts played against `policy.engine` with noise, in no time: the Runs that a backend with known constants would give."""

import math
import random
from collections.abc import Callable
from dataclasses import replace

from bestserve.policy import engine
from bestserve.profiles.schema import Engine
from bestserve.proxy.profiling.runs import Run, Stream
from bestserve.proxy.profiling.script import BEGIN, END, Script

KNOWN = Engine(
    prefill_tokens_per_s=8_000,
    prefill_fixed_s=0.02,
    step_fixed_s=0.010,
    step_per_seq_s=0.001,
    step_per_kv_token_s=2e-6,
    max_running=16,
    kv_tokens=40_000,
    context=4_096,
    prefill_batch_tokens=2_048,
    overhead_s=0.015,
    prefill_cached_cost=0.25,
)


def play(script: Script, constants: Engine = KNOWN, noise: float = 0.0, seed: int = 0, lag: Callable[[int], float] = lambda _: 0.0) -> Run:
    """One script from begin to end, a step at a time; `lag(call)` is added to what the call's stream sees."""
    return _Play(script, constants, noise, seed).run(lag)


class _Play:
    def __init__(self, script: Script, constants: Engine, noise: float, seed: int) -> None:
        self.script, self.constants, self.noise, self.dice = script, constants, noise, random.Random(seed)
        self.state = engine.State(constants)
        n = len(script.calls)
        self.sent, self.times, self.counts = [0.0] * n, [list[float]() for _ in range(n)], [list[int]() for _ in range(n)]
        self.coming = [(call.delay_s + constants.overhead_s, i) for i, call in enumerate(script.calls) if call.after is None]
        for _, i in self.coming:
            self.sent[i] = script.calls[i].delay_s
        self.families: set[int] = set()

    def run(self, lag: Callable[[int], float]) -> Run:
        now = 0.0
        while self.coming or not engine.idle(self.state):
            if engine.idle(self.state):
                now = max(now, min(self.coming)[0])
            for at, i in sorted(self.coming):
                if at <= now:
                    self._submit(i)
                    self.coming.remove((at, i))
            done = engine.step(self.state, now)
            if done is None:
                continue
            sigma = self.noise
            now += done.duration_s * math.exp(sigma * self.dice.gauss(0, 1) - sigma * sigma / 2)
            for name in done.finished:
                self._said(int(name), self.script.calls[int(name)].answer, now)
            for name, (made,) in engine.progress(self.state):
                self._said(int(name), made, now)
            self._release(done, now)
        streams = tuple(self._stream(i, lag(i)) for i in range(len(self.script.calls)))
        return Run(self.script.kind, self.script.key, self.script.calls, streams, now)

    def _submit(self, i: int) -> None:
        call = self.script.calls[i]
        cached = min(call.shared, call.prompt - 1) if call.family in self.families else 0
        self.families |= {call.family} if call.shared else set()
        engine.submit(self.state, engine.Job(str(i), call.prompt, (call.answer,), call.answer, cached))

    def _said(self, i: int, tokens: int, now: float) -> None:
        if not self.counts[i] or self.counts[i][-1] < tokens:
            self.times[i].append(now)
            self.counts[i].append(tokens)

    def _release(self, done: engine.Step, now: float) -> None:
        reached = {(int(name), BEGIN) for name in done.first_tokens} | {(int(name), END) for name in done.finished}
        for i, call in enumerate(self.script.calls):
            if call.after is not None and (call.after, call.at) in reached:
                self.sent[i] = now + call.delay_s
                self.coming.append((self.sent[i] + self.constants.overhead_s, i))

    def _stream(self, i: int, lag: float) -> Stream:
        return Stream(self.sent[i], self.script.calls[i].prompt, None, tuple(when + lag for when in self.times[i]), tuple(self.counts[i]))


def with_constants(**changes: float) -> Engine:
    return replace(KNOWN, **changes)  # type: ignore[arg-type]
