"""Plays a script against the backend: every call when it is due, and what came when."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bestserve.proxy.errors import BackendFailure

from .backend import Lookout, Target
from .runs import Run, Stream
from .script import BEGIN, END, Script

__all__ = ["drive"]


async def drive(script: Script, target: Target, lookout: Lookout) -> Run:
    """Play a script once. A failure of one call ends all of it, and is told in the Run."""
    lookout.foreign, began = 0, target.clock()
    looking = asyncio.create_task(lookout.keep_looking())
    playing = _Playing(script, target, lookout)
    failed: str | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for i in range(len(script.calls)):
                group.create_task(playing.play(i))
    except* (BackendFailure, ValueError) as errors:
        failed = str(errors.exceptions[0]) or type(errors.exceptions[0]).__name__
    finally:
        looking.cancel()
    streams = tuple(_since(began, playing.streams.get(i)) for i in range(len(script.calls)))
    return Run(script.kind, script.key, script.calls, streams, target.clock() - began, lookout.foreign, failed)


@dataclass(slots=True)
class _Playing:
    script: Script
    target: Target
    lookout: Lookout
    streams: dict[int, Stream] = field(default_factory=dict)
    reached: dict[tuple[int, str], asyncio.Event] = field(default_factory=dict)

    async def play(self, i: int) -> None:
        call = self.script.calls[i]
        if call.after is not None:
            await self._event(call.after, call.at).wait()
        if call.delay_s:
            await asyncio.sleep(call.delay_s)
        self.lookout.sent()
        try:
            self.streams[i] = await self.target.ask(call, self._begun(i))
        finally:
            self.lookout.over()
        self._event(i, BEGIN).set()
        self._event(i, END).set()

    def _begun(self, i: int) -> Callable[[], None]:
        return self._event(i, BEGIN).set

    def _event(self, i: int, what: str) -> asyncio.Event:
        return self.reached.setdefault((i, what), asyncio.Event())


_NOTHING = Stream(0.0, 0, None, (), ())


def _since(began: float, stream: Stream | None) -> Stream:
    """A stream's times from the run's begin."""
    if stream is None:
        return _NOTHING
    return replace(stream, sent=stream.sent - began, times=tuple(when - began for when in stream.times))
