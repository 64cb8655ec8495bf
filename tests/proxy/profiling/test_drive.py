"""A script is played as it is written, and one failure ends it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bestserve.proxy.errors import Broke
from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.drive import drive
from bestserve.proxy.profiling.runs import Run, Stream
from bestserve.proxy.profiling.script import BEGIN, Call, Script


class Target:
    """Answers each call after so many seconds, its first token at half of that."""

    def __init__(self, takes_s: float = 0.02, fails: Callable[[Call], bool] = lambda _: False) -> None:
        self.takes_s, self.fails, self.asked = takes_s, fails, list[int]()

    def clock(self) -> float:
        return asyncio.get_running_loop().time()

    async def ask(self, call: Call, began: Callable[[], None]) -> Stream:
        sent = self.clock()
        self.asked.append(call.prompt)
        if self.fails(call):
            raise Broke("closed")
        await asyncio.sleep(self.takes_s / 2)
        first = self.clock()
        began()
        await asyncio.sleep(self.takes_s / 2)
        return Stream(sent, call.prompt, None, (first, self.clock()), (1, call.answer))


class Lookout:
    """Counts our calls, and sees others when it is told so."""

    def __init__(self, others: int = 0) -> None:
        self.foreign, self.ours, self.most, self.others = 0, 0, 0, others

    def sent(self) -> None:
        self.ours += 1
        self.most = max(self.most, self.ours)

    def over(self) -> None:
        self.ours -= 1

    async def keep_looking(self) -> None:
        self.foreign = self.others


def played(one: Script, target: Target, lookout: Lookout) -> Run:
    t: Any = target
    look: Any = lookout
    return asyncio.run(drive(one, t, look))


def test_calls_that_wait_for_nothing_are_sent_at_once() -> None:
    """Four together; all ended at the end."""
    lookout = Lookout()
    run = played(script.decode(4, 32, 9), Target(), lookout)

    assert lookout.most == 4
    assert lookout.ours == 0
    assert run.failed is None
    assert [stream.tokens for stream in run.streams] == [9] * 4


def test_a_call_waits_for_the_first_token_or_the_end_of_another() -> None:
    """A probe comes after the decoder's first token, the next after the probe's end, each with its delay."""
    calls = (Call(10, 5, 1), Call(20, 1, 2, after=0, at=BEGIN, delay_s=0.01), Call(30, 1, 3, after=1, delay_s=0.02))
    run = played(Script("stall", "s", calls), Target(0.04), Lookout())

    first, second, third = run.streams
    assert second.sent >= first.first + 0.009
    assert second.sent < first.last
    assert third.sent >= second.last + 0.019


def test_times_are_from_the_runs_begin() -> None:
    """Not of the clock."""
    run = played(script.prefill(16, 1), Target(), Lookout())

    assert 0 <= run.streams[0].sent < 0.01
    assert run.streams[0].last <= run.took_s


def test_one_failure_ends_the_run_and_says_why() -> None:
    """Those that wait for it are not sent, and nothing of ours is left there."""
    lookout, target = Lookout(), Target(fails=lambda call: call.prompt == 512)
    run = played(script.remember(512, 16, 1), target, lookout)

    assert run.failed == "closed"
    assert target.asked == [512]
    assert lookout.ours == 0
    assert run.streams[1].times == ()


@pytest.mark.parametrize("others", [0, 3])
def test_what_others_had_there_is_told(others: int) -> None:
    """The most that was seen."""
    assert played(script.prefill(16, 1), Target(), Lookout(others)).foreign == others
