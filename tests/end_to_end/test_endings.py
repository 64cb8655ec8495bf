"""The ways in which an attempt can end. In each: upstream is let go at once, in-flight returns to zero, one Record is made."""

import asyncio
import socket
import struct

import pytest

from .world import World, chat, flood, hang_up, nothing, piece, refuse, refuse_in_stream, stream, world

pytestmark = pytest.mark.anyio

SOON_S = 1.0


async def let_go(backend, n: int = -1) -> None:
    """The backend sees that nobody waits any more."""
    async with asyncio.timeout(SOON_S):
        await backend.got[n].hung_up.wait()


async def nothing_remains(here: World, *endings: tuple[str | None, str]) -> None:
    await here.settled()
    assert max(map(max, here.serving.fleet.books())) == pytest.approx(0, abs=1e-6)
    assert here.endings == list(endings)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_done(tmp_path, streamed):
    """The answer arrives whole."""
    async with world(tmp_path) as here:
        client = await (await here.ask(chat(stream=streamed))).head()
        assert client.status == 200
        assert b"a" in await client.body()

        await nothing_remains(here, ("a", "done"))


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_gone_before_the_first_byte(tmp_path, streamed):
    """A client who leaves during the prefill frees the backend at once, not at the first token."""
    async with world(tmp_path) as here:
        here.backends["a"].script = nothing
        client = await here.ask(chat(stream=streamed))
        await here.backends["a"].arrived.wait()

        client.leave()

        await let_go(here.backends["a"])
        await nothing_remains(here, ("a", "abandoned"))


@pytest.mark.parametrize(("streamed", "unread"), [(True, True), (False, False)], ids=["stream", "whole"])
async def test_the_prompt_of_an_answer_in_one_piece_does_not_wait_until_its_end(tmp_path, streamed, unread):
    """A stream says when its prompt was read. Of another nobody hears: it is taken as read when it should have been."""
    async with world(tmp_path) as here:
        here.backends["a"].script = nothing
        client = await here.ask(chat(stream=streamed))
        await here.backends["a"].arrived.wait()
        await asyncio.sleep(0.2)

        assert any(here.serving.view().columns.prefill_tokens) == unread
        client.leave()
        await nothing_remains(here, ("a", "abandoned"))


async def test_gone_in_the_middle_of_a_stream(tmp_path):
    """A client who leaves between two tokens ends the upstream request."""
    async with world(tmp_path) as here:
        here.backends["a"].script = stream("one", "two", then=nothing)
        client = await (await here.ask(chat(stream=True))).head()
        await client.some()

        client.leave()

        await let_go(here.backends["a"])
        await nothing_remains(here, ("a", "abandoned"))


async def test_stalled_then_gone(tmp_path):
    """A client who stops reading stops the backend, not our memory; when he leaves, everything is let go."""
    async with world(tmp_path) as here:
        here.backends["a"].script = flood
        client = await here.ask(chat(stream=True))
        await client.head()
        client.reader._transport.pause_reading()
        await asyncio.sleep(0.5)
        held = sum(len(p) for u in here.serving.upstreams.values() for w in u._open for p in w._pieces)
        assert held < 4_000_000

        client.leave()

        await let_go(here.backends["a"])
        await nothing_remains(here, ("a", "abandoned"))


async def test_send_fails(tmp_path):
    """A connection that is reset under our hands ends the upstream request."""
    async with world(tmp_path) as here:
        here.backends["a"].script = flood
        client = await (await here.ask(chat(stream=True))).head()
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        client.writer.transport.abort()

        await let_go(here.backends["a"])
        await nothing_remains(here, ("a", "abandoned"))


async def test_upstream_breaks_in_the_middle(tmp_path):
    """After the first byte nobody else is asked: the stream ends with an error event and no [DONE]."""
    async with world(tmp_path) as here:
        here.backends["a"].script = stream("one", "two", then=hang_up)
        client = await (await here.ask(chat(stream=True))).head()
        body = await client.body()

        assert b'"two"' in body
        assert b'data: {"error":' in body
        assert b"[DONE]" not in body
        await nothing_remains(here, ("a", "broke"))
        assert not here.backends["b"].got


async def test_upstream_breaks_in_the_middle_of_a_whole_answer(tmp_path):
    """The client has not had a byte of it yet, so another backend answers."""

    async def half(got, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()

    async with world(tmp_path) as here:
        here.backends["a"].script = half
        answer = await (await here.ask(chat())).answer()

        assert answer["choices"][0]["message"]["content"] == "Hello from b"
        await nothing_remains(here, ("a", "broke"), ("b", "done"))


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_server_shuts_down(tmp_path, streamed):
    """Past the drain time the client is told, and the upstream request ends."""
    async with world(tmp_path) as here:
        here.backends["a"].script = stream("one", "two", then=nothing) if streamed else nothing
        client = await here.ask(chat(stream=streamed))
        await here.backends["a"].arrived.wait()
        here.server.should_exit = True

        await client.head()
        body = await client.body()

        assert b"going down" in body
        assert client.status == (200 if streamed else 503)
        await let_go(here.backends["a"])
        await nothing_remains(here, ("a", "abandoned"))


@pytest.mark.parametrize(
    "no",
    [refuse(503), refuse(429), refuse(500), refuse(404, {"detail": "Not Found"}), refuse_in_stream, hang_up],
    ids=["503", "429", "500", "404", "in-stream", "hung up"],
)
async def test_the_first_backend_refuses(tmp_path, no):
    """Before the first byte, another is asked; the client sees nothing of it."""
    async with world(tmp_path) as here:
        here.backends["a"].script = no
        client = await (await here.ask(chat(stream=True))).head()
        body = await client.body()

        assert client.status == 200
        assert b"from" in body
        assert b"error" not in body
        assert client.headers["x-bestserve-backend"] == "b"
        await nothing_remains(here, ("a", "refused"), ("b", "done"))


async def test_a_backend_that_never_answers_is_given_up_and_another_asked(tmp_path):
    """The time before the first token is watched."""
    async with world(tmp_path, more="timeouts: {first_token_ms: 200}\n") as here:
        here.backends["a"].script = nothing
        client = await (await here.ask(chat(stream=True))).head()

        assert client.headers["x-bestserve-backend"] == "b"
        await client.body()
        await let_go(here.backends["a"])
        await nothing_remains(here, ("a", "refused"), ("b", "done"))


async def test_a_stream_that_falls_silent_is_ended(tmp_path):
    """The time between tokens is watched, too."""
    async with world(tmp_path, more="timeouts: {idle_ms: 200}\n") as here:
        here.backends["a"].script = stream("one", then=nothing)
        client = await (await here.ask(chat(stream=True))).head()
        body = await client.body()

        assert b'data: {"error":' in body
        await nothing_remains(here, ("a", "broke"))


async def test_a_whole_answer_that_never_comes_is_given_up(tmp_path):
    """So is the path that does not stream."""
    async with world(tmp_path, more="timeouts: {total_ms: 200}\n") as here:
        here.backends["a"].script = nothing
        answer = await (await here.ask(chat())).answer()

        assert answer["choices"][0]["message"]["content"] == "Hello from b"
        await nothing_remains(here, ("a", "refused"), ("b", "done"))


async def test_when_nobody_is_left_the_client_is_told_when_to_come_back(tmp_path):
    """503 with retry-after, in OpenAI's shape, and a Record for every attempt and for the shed."""
    async with world(tmp_path) as here:
        for backend in here.backends.values():
            backend.script = refuse(503)
        client = await here.ask(chat())
        answer = await client.answer()

        assert client.status == 503
        assert answer["error"]["code"] == "no_backend_available"
        assert int(client.headers["retry-after"]) >= 1
        assert int(client.headers["retry-after-ms"]) >= 1
        assert client.headers["x-should-retry"] == "true"
        await nothing_remains(here, ("a", "refused"), ("b", "refused"), (None, "shed"))


async def test_a_hundred_clients_who_leave_at_random_leak_nothing(tmp_path):
    """Whatever the moment, books, connections and records come out even."""

    async def slow(got, writer):
        await asyncio.sleep(0.01 * (len(here.backends["a"].got) % 7))
        await stream("one", "two", then=lambda g, w: asyncio.sleep(0.02))(got, writer)
        writer.write(piece(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def one(i: int) -> None:
        client = await here.ask(chat(stream=True))
        await asyncio.sleep(0.001 * (i % 60))
        client.leave()

    async with world(tmp_path) as here:
        here.backends["a"].script = slow
        await asyncio.gather(*(one(i) for i in range(100)))
        await here.settled()

        assert max(map(max, here.serving.fleet.books())) == pytest.approx(0, abs=1e-6)
        begun = [r for r in here.serving.recent if r.decision.action.backend is not None]
        assert len(begun) >= len(here.backends["a"].got) > 0
        assert {r.outcome.ending.value for r in begun} <= {"done", "abandoned"}
