"""What should have come when: a script against `policy.engine`, the same arithmetic that the simulator and the emulator turn. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from bestserve.policy import engine
from bestserve.profiles.schema import Engine

from .script import BEGIN, END, Call

__all__ = ["Times", "replay"]


@dataclass(frozen=True, slots=True)
class Times:
    """When one call was sent, had its first token and had its last; seconds from the script's begin."""

    sent: float
    first: float
    last: float


def replay(calls: Sequence[Call], constants: Engine) -> list[Times]:
    """Predict a script, call by call. Raises ValueError for a call that could never be served."""
    return _Replay(calls, constants).run()


class _Replay:
    """One engine, and the calls on their way to it."""

    def __init__(self, calls: Sequence[Call], constants: Engine) -> None:
        self.calls, self.constants = calls, constants
        self.state = engine.State(constants)
        self.sent, self.first, self.last = ([0.0] * len(calls) for _ in range(3))
        self.coming: list[tuple[float, int]] = []  # heap: (when it reaches the queue, call)
        self.waits: dict[tuple[int, str], list[int]] = {}
        for i, call in enumerate(calls):
            if call.after is None:
                self._send(i, call.delay_s)
            else:
                self.waits.setdefault((call.after, call.at), []).append(i)

    def run(self) -> list[Times]:
        now = 0.0
        while self.coming or not engine.idle(self.state):
            if engine.idle(self.state):
                now = max(now, self.coming[0][0])
            self._submit(now)
            limit = engine.steps_within(self.state, self.coming[0][0] - now) if self.coming else 1_000_000_000
            if (done := engine.step(self.state, now, limit)) is None:
                continue
            now = done.ends_at
            for name in done.first_tokens:
                self._reached(int(name), BEGIN, self.first, now)
            for name in done.finished:
                self._reached(int(name), END, self.last, now)
        return [Times(*times) for times in zip(self.sent, self.first, self.last, strict=True)]

    def _send(self, i: int, at: float) -> None:
        self.sent[i] = at
        heappush(self.coming, (at + self.constants.overhead_s, i))

    def _submit(self, now: float) -> None:
        while self.coming and self.coming[0][0] <= now:
            _, i = heappop(self.coming)
            call = self.calls[i]
            engine.submit(self.state, engine.Job(str(i), call.prompt, (call.answer,), call.answer))

    def _reached(self, i: int, what: str, times: list[float], now: float) -> None:
        times[i] = now
        for waiting in self.waits.get((i, what), ()):
            self._send(waiting, now + self.calls[waiting].delay_s)
