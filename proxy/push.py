"""Begin to await something without a task: most sends of a relay are done before they would have to wait."""

from collections.abc import Awaitable, Generator
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
