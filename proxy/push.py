"""Await something without a task. Most sends of a relay are done before they would have to wait; a client that may leave is waited
for beside every answer, and nearly always in vain."""

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from typing import Any


def begun(work: Awaitable[None]) -> Awaitable[None] | None:
    """Run `work` as far as it goes. None when that was to its end, else the rest of it, to be awaited."""
    steps = work.__await__()
    try:
        waiting_for = next(steps)
    except StopIteration:
        return None
    return _Rest(steps, waiting_for)


class _Rest:
    """Something that has been begun elsewhere, and waits for a future."""

    def __init__(self, steps: Generator[Any, Any, None], waiting_for: Any) -> None:
        self._steps = steps
        self._waiting_for = waiting_for

    def __await__(self) -> Generator[Any, Any, None]:
        waiting_for = self._waiting_for
        while True:
            try:
                yield waiting_for
                step = partial(next, self._steps)
            except BaseException as error:  # a cancellation, say: the work's own business
                step = partial(self._steps.throw, error)
            try:
                waiting_for = step()
            except StopIteration:
                return


class Aside:
    """Work that goes on beside a task, in the callbacks of the futures that it waits for. What it raises goes to the loop's handler."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self._over = False
        self._go_on()

    def end(self) -> None:
        """Leave off, so far as it goes. The work may clean up behind itself, but no longer wait."""
        self._over = True
        self._work.close()

    def _go_on(self, future: "asyncio.Future[Any] | None" = None) -> None:
        if self._over:
            return
        try:
            waiting_for = self._work.send(None)
        except StopIteration:
            self._over = True
        else:
            self._resume_after(waiting_for)

    def _resume_after(self, waiting_for: Any) -> None:
        if waiting_for is None:  # a bare yield: only a turn of the loop
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            waiting_for._asyncio_future_blocking = False  # noqa: SLF001  how a task says that it has taken note
            waiting_for.add_done_callback(self._go_on)
