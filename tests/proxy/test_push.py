"""Beginning to await something outside of a task."""

import asyncio

import pytest

from bestserve.proxy.push import Aside, begun

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_need_not_wait_is_done_at_once():
    """No task, no turn of the loop."""
    said = []

    async def work() -> None:
        said.append("done")

    assert begun(work()) is None
    assert said == ["done"]


async def test_what_has_to_wait_goes_on_where_it_is_awaited():
    """The rest runs to its end, through as many waits as it has."""
    said, gates = [], [asyncio.Event(), asyncio.Event()]

    async def work() -> None:
        for i, gate in enumerate(gates):
            said.append(i)
            await gate.wait()
        said.append("done")

    rest = begun(work())
    assert rest is not None
    assert said == [0]
    for gate in gates:
        asyncio.get_running_loop().call_later(0.01, gate.set)
    await rest

    assert said == [0, 1, "done"]


async def test_a_cancellation_reaches_the_work():
    """It can clean up behind itself, as it could in a task."""
    said = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            said.append("cleaned")

    async def wait() -> None:
        rest = begun(work())
        assert rest is not None
        await rest

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert said == ["cleaned"]


async def test_an_error_is_raised_where_it_happens():
    """At once, or in whoever awaits the rest."""
    gate = asyncio.Event()

    async def fail(*, wait: bool) -> None:
        if wait:
            await gate.wait()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        begun(fail(wait=False))
    rest = begun(fail(wait=True))
    assert rest is not None
    gate.set()
    with pytest.raises(OSError, match="gone"):
        await rest


async def test_what_goes_on_aside_needs_no_task():
    """Through waits, turns of the loop and what is done already, to its end."""
    said, gate, before = [], asyncio.Event(), asyncio.all_tasks()

    async def work() -> None:
        said.append(asyncio.all_tasks() == before)
        await gate.wait()
        await asyncio.sleep(0)
        await gate.wait()
        said.append("done")

    Aside(work())
    assert said == [True]
    gate.set()
    await asyncio.sleep(0.01)

    assert said == [True, "done"]


async def test_what_goes_on_aside_can_be_ended():
    """It cleans up, and does not go on when what it waited for happens; ending it again changes nothing."""
    said, gate = [], asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await gate
            said.append("went on")
        finally:
            said.append("cleaned")

    aside = Aside(work())
    gate.set_result(None)
    aside.end()
    aside.end()
    await asyncio.sleep(0.01)

    assert said == ["cleaned"]
