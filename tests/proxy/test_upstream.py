"""The connections to one backend, on real sockets: bodies of every framing, connections kept and lost, and hanging up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bestserve.proxy import upstream as upstream_module
from bestserve.proxy.errors import Broke, Refused
from bestserve.proxy.upstream import Upstream
from bestserve.proxy.wire import HIGH_WATER, Timeouts

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(slots=True)
class Connection:
    """One connection as the backend sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head + await self.reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def until_gone(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.reader.read()
        self.gone.set()


Script = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A backend that does what its script says, a connection at a time."""

    port: int = 0
    connections: list[Connection] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def upstream(self, path: str = "", **how: object) -> Upstream:
        return Upstream(f"http://127.0.0.1:{self.port}{path}", **how)


@contextlib.asynccontextmanager
async def backend(*scripts: Script) -> AsyncIterator[Server]:
    """Each connection gets the next script; the last one serves all that follow."""
    server, tasks = Server(), set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here = Connection(reader, writer)
        server.connections.append(here)
        tasks.add(asyncio.current_task())
        script = scripts[min(len(server.connections), len(scripts)) - 1]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(here)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(10):
            yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def says(*pieces: bytes, then_close: bool = False) -> Script:
    """Answer every request with these bytes."""

    async def script(here: Connection) -> None:
        while True:
            await here.request()
            await here.send(*pieces)
            if then_close:
                return

    return script


async def fetched(upstream: Upstream, **how: object) -> tuple[int, bytes]:
    reply = await upstream.exchange("POST", "/x", b"{}", **how)
    try:
        return reply.status, await reply.whole()
    finally:
        reply.close()


# --- what is sent ---


async def test_a_request():
    """Our headers and no others, the body as it is."""
    got = []

    async def script(here: Connection) -> None:
        got.append(await here.request())
        await here.send(OK)

    async with backend(script) as server:
        assert await fetched(server.upstream()) == (200, b"ok")

    head = b"POST /x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: */*\r\nuser-agent: bestserve\r\n" % server.port
    assert got == [head + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"]


async def test_a_key_of_the_backends_own_is_sent():
    """With every request."""
    got = []

    async def script(here: Connection) -> None:
        while True:
            got.append(await here.request())
            await here.send(OK)

    async with backend(script) as server:
        upstream = server.upstream(api_key="sk-upstream")
        await fetched(upstream)
        await upstream.get("/ready")
        upstream.close()

    assert all(b"\r\nauthorization: Bearer sk-upstream\r\n" in request for request in got)
    assert len(got) == 2


@pytest.mark.parametrize(("base", "path"), [("", "/ready"), ("/", "/ready"), ("/a/b", "/a/b/ready"), ("/a/b/", "/a/b/ready")])
async def test_a_base_path_stands_before_every_path(base, path):
    """A backend may live under one."""
    got = []

    async def script(here: Connection) -> None:
        got.append(await here.request())
        await here.send(OK)

    async with backend(script) as server:
        await server.upstream(base).get("/ready")

    assert got[0].startswith(b"GET " + path.encode() + b" HTTP/1.1\r\n")
    assert b"content-length" not in got[0]


# --- what comes back ---


@pytest.mark.parametrize(
    ("pieces", "then_close", "body"),
    [
        ((OK,), False, b"ok"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",), False, b""),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), False, b""),
        ((CHUNKED + b"2\r\nok\r\n0\r\n\r\n",), False, b"ok"),
        ((CHUNKED, b"2\r\no", b"k\r", b"\n3;x=y\r\nay!\r\n0\r\ntrailer: t\r\n\r\n"), False, b"okay!"),
        ((CHUNKED + b"0\r\n\r\n",), False, b""),
        ((b"HTTP/1.1 200 OK\r\n\r\nok", b"ay"), True, b"okay"),
        ((b"HTTP/1.0 200 OK\r\n\r\nok",), True, b"ok"),
        ((b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",), True, b"ok"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n" + OK,), False, b"ok"),
        ((b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n", OK), False, b"ok"),
    ],
)
async def test_a_body_of_any_framing(pieces, then_close, body):
    """By its length, in chunks, until the end, after other heads."""
    async with backend(says(*pieces, then_close=then_close)) as server:
        upstream = server.upstream()
        _, got = await fetched(upstream)

        assert got == body
        assert upstream.n_open == 0
        upstream.close()


async def test_the_head_of_an_interim_reply_is_not_the_replys():
    """Its headers are forgotten."""
    async with backend(
        says(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 404 No\r\nX-Two: 2\r\ncontent-length: 0\r\n\r\n")
    ) as server:
        upstream = server.upstream()
        reply = await upstream.exchange("GET", "/x")

        assert (reply.status, reply.headers) == (404, [(b"x-two", b"2"), (b"content-length", b"0")])
        reply.close()
        upstream.close()


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
async def test_cuts_do_not_matter(cut):
    """A reply that comes in bits is the same reply."""
    whole = CHUNKED + b"2\r\nok\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"

    async with backend(says(*(whole[i : i + cut] for i in range(0, len(whole), cut)))) as server:
        upstream = server.upstream()
        assert await fetched(upstream) == (200, b"ok" + b"x" * 16)
        upstream.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status):
    """It is a reply like any other; nobody else is asked."""
    async with (
        backend(says(OK)) as elsewhere,
        backend(
            says(b"HTTP/1.1 %d Moved\r\nlocation: http://127.0.0.1:%d/\r\ncontent-length: 0\r\n\r\n" % (status, elsewhere.port))
        ) as server,
    ):
        upstream = server.upstream()

        assert (await fetched(upstream))[0] == status
        assert not elsewhere.connections
        upstream.close()


# --- connections kept ---


async def test_a_connection_is_kept_and_used_again():
    """One after the other needs one; two at once need two."""
    async with backend(says(OK)) as server:
        upstream = server.upstream()
        for _ in range(5):
            await fetched(upstream)
        assert len(server.connections) == 1

        await asyncio.gather(fetched(upstream), fetched(upstream))
        await asyncio.gather(fetched(upstream), fetched(upstream))
        assert len(server.connections) == 2
        upstream.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_the_backend_will_close_is_not_kept(reply):
    """It said so."""
    async with backend(says(reply)) as server:
        upstream = server.upstream()
        await fetched(upstream)
        await fetched(upstream)

        assert len(server.connections) == 2


async def test_a_kept_connection_that_was_closed_is_not_used():
    """The request goes out on a fresh one."""
    async with backend(says(OK, then_close=True), says(OK)) as server:
        upstream = server.upstream()
        await fetched(upstream)
        await asyncio.sleep(0.02)

        assert await fetched(upstream) == (200, b"ok")
        assert len(server.connections) == 2
        upstream.close()


async def test_a_request_that_meets_a_closing_connection_is_sent_once_more():
    """Both sides may act at the same time: the backend closed before it saw the request."""

    async def closes_on_the_second(here: Connection) -> None:
        await here.request()
        await here.send(OK)
        await here.request()
        here.writer.transport.abort()

    async with backend(closes_on_the_second, says(OK)) as server:
        upstream = server.upstream()
        await fetched(upstream)

        assert await fetched(upstream) == (200, b"ok")
        assert len(server.connections) == 2
        assert upstream.n_open == 0
        upstream.close()


async def test_a_request_that_meets_a_closing_fresh_connection_is_not_sent_again():
    """The backend does not want it."""

    async def closes(here: Connection) -> None:
        await here.request()

    async with backend(closes) as server:
        upstream = server.upstream()
        with pytest.raises(Refused, match="closed"):
            await fetched(upstream)

        assert len(server.connections) == 1
        assert upstream.n_open == 0


async def test_a_request_that_was_half_answered_is_not_sent_again():
    """Not on a kept connection either: the backend has begun on it."""

    async def breaks_on_the_second(here: Connection) -> None:
        await here.request()
        await here.send(OK)
        await here.request()
        await here.send(b"HTTP/1.1 200 OK\r\n")

    async with backend(breaks_on_the_second, says(OK)) as server:
        upstream = server.upstream()
        await fetched(upstream)

        with pytest.raises(Refused, match="closed"):
            await fetched(upstream)
        assert len(server.connections) == 1


@pytest.mark.parametrize("late", [True, False], ids=["later", "with it"])
@pytest.mark.parametrize(
    "more", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1 404 No\r\nx: evil\r\ncontent-length: 0\r\n\r\n"]
)
async def test_bytes_after_the_end_are_nobodys_answer(more, late):
    """They change nothing of the reply before them, and never answer the request after it."""

    async def script(here: Connection) -> None:
        await here.request()
        if not late:
            await here.send(OK + more)
        else:
            await here.send(OK)
            await asyncio.sleep(0.02)
            await here.send(more)
        await here.until_gone()

    async with backend(script, says(OK)) as server:
        upstream = server.upstream()
        reply = await upstream.exchange("POST", "/x", b"{}")
        assert (reply.status, await reply.whole(), len(reply.headers)) == (200, b"ok", 1)
        reply.close()
        await asyncio.sleep(0.04 if late else 0)

        assert await fetched(upstream) == (200, b"ok")
        assert len(server.connections) == 2
        await server.connections[0].gone.wait()
        upstream.close()


# --- what goes wrong ---


@pytest.mark.parametrize(
    "reply",
    [b"garbage\r\n\r\n", b"\x16\x03\x01", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"],
)
async def test_what_is_not_http_is_refused(reply):
    """And the connection is closed."""

    async def script(here: Connection) -> None:
        await here.request()
        await here.send(reply)
        await here.until_gone()

    async with backend(script) as server:
        upstream = server.upstream()
        with pytest.raises(Refused, match="not_http"):
            await fetched(upstream)

        await server.connections[0].gone.wait()
        assert upstream.n_open == 0


async def test_nobody_there():
    """A connection that is refused is a refusal."""
    async with backend(says(OK)) as server:
        pass

    with pytest.raises(Refused) as caught:
        await server.upstream().get("/x")
    assert caught.value.reason == "connect_failed"


async def test_a_backend_that_speaks_no_tls():
    """An https address is never spoken to in the clear."""
    got = []

    async def script(here: Connection) -> None:
        got.append(await here.reader.read(100))
        await here.send(OK)

    async with backend(script) as server:
        upstream = Upstream(f"https://127.0.0.1:{server.port}", timeouts=Timeouts(connect_s=1), api_key="sk-secret")
        with pytest.raises(Refused) as caught:
            await fetched(upstream)

    assert caught.value.reason in ("connect_failed", "connect_timeout")
    assert b"sk-secret" not in b"".join(got)


@pytest.mark.parametrize(
    "half",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok",
        CHUNKED + b"2\r\nok\r\n",
        CHUNKED + b"2\r\nok\r\n5\r\nxx",
        CHUNKED + b"2\r\nok\r\nnot a size",
        CHUNKED,
    ],
)
async def test_a_body_that_is_cut_short_broke(half):
    """It is never taken for a whole one."""
    async with backend(says(half, then_close=True)) as server:
        upstream = server.upstream()

        with pytest.raises(Broke):
            await fetched(upstream)
        assert upstream.n_open == 0


async def test_an_answer_without_end_is_given_up():
    """Past the most that is held."""
    async with backend(says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)) as server:
        reply = await server.upstream().exchange("GET", "/x")

        with pytest.raises(Broke, match="longer than 1000 bytes"):
            await reply.whole(most=1000)
        reply.close()


# --- hanging up ---


@pytest.mark.parametrize("head", [b"", CHUNKED, CHUNKED + b"2\r\nok\r\n"], ids=["before the head", "before the body", "in the body"])
async def test_to_close_in_the_middle_is_to_hang_up(head):
    """At once: that is how SGLang learns that nobody waits any more."""

    async def script(here: Connection) -> None:
        await here.request()
        await here.send(head)
        await here.until_gone()

    async with backend(script) as server:
        upstream = server.upstream()
        asking = asyncio.ensure_future(upstream.exchange("POST", "/x", b"{}", stream=True))
        if head:
            (await asking).close()
        else:
            while not server.connections:
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

        await server.connections[0].gone.wait()
        assert upstream.n_open == 0


async def test_a_reply_may_be_closed_again():
    """The connection is given back once."""
    async with backend(says(OK)) as server:
        upstream = server.upstream()
        reply = await upstream.exchange("GET", "/x")
        await reply.whole()
        reply.close()
        reply.close()

        await asyncio.gather(fetched(upstream), fetched(upstream))
        assert len(server.connections) == 2
        upstream.close()


async def test_to_close_an_upstream_lets_open_replies_end():
    """Idle connections are closed at once, the others when they are given back."""

    async def slow(here: Connection) -> None:
        await here.request()
        await here.send(CHUNKED + b"1\r\na\r\n")
        await asyncio.sleep(0.05)
        await here.send(b"1\r\nb\r\n0\r\n\r\n")
        await here.until_gone()

    async def idle(here: Connection) -> None:
        await here.request()
        await here.send(OK)
        await here.until_gone()

    async with backend(slow, idle) as server:
        upstream = server.upstream()
        reply = await upstream.exchange("POST", "/x", b"{}", stream=True)
        await fetched(upstream)

        upstream.close()

        await server.connections[1].gone.wait()
        assert await reply.whole() == b"ab"
        reply.close()
        await server.connections[0].gone.wait()


async def test_a_slow_reader_stops_the_socket_and_not_the_memory():
    """What is not read stays with the backend; when it is read, all of it comes."""
    size = 20_000_000
    sent = []

    async def script(here: Connection) -> None:
        await here.request()
        await here.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 10_000):
            await here.send(b"x" * 10_000)
            sent.append(10_000)

    async with backend(script) as server:
        upstream = server.upstream()
        reply = await upstream.exchange("GET", "/x")
        n = -1
        while n < len(sent):
            n = len(sent)
            await asyncio.sleep(0.05)
        assert sum(map(len, reply._wire._pieces)) < HIGH_WATER + 300_000
        assert sum(sent) < size

        assert len(await reply.whole()) == size
        reply.close()
        upstream.close()


# --- time ---


@pytest.fixture
def often(monkeypatch):
    """Time is looked at often enough for a test."""
    monkeypatch.setattr(upstream_module, "SWEEP_S", 0.01)


async def _silent(here: Connection) -> None:
    await here.request()
    await here.until_gone()


@pytest.mark.parametrize(
    ("stream", "limits"), [(True, Timeouts(first_byte_s=0.05)), (True, Timeouts(total_s=0.05)), (False, Timeouts(total_s=0.05))]
)
async def test_a_backend_that_never_answers_is_refused(often, stream, limits):
    """After the time that holds for a stream, or for a whole answer."""
    async with backend(_silent) as server:
        upstream = server.upstream(timeouts=limits)
        with pytest.raises(Refused, match="timeout"):
            await fetched(upstream, stream=stream)

        await server.connections[0].gone.wait()
        assert upstream.n_open == 0
        assert len(server.connections) == 1


async def test_an_answer_at_once_has_no_time_for_its_first_byte(often):
    """It comes when all of it is written."""

    async def script(here: Connection) -> None:
        await here.request()
        await asyncio.sleep(0.1)
        await here.send(OK)

    async with backend(script) as server:
        upstream = server.upstream(timeouts=Timeouts(first_byte_s=0.02, idle_s=0.02))
        assert await fetched(upstream) == (200, b"ok")
        upstream.close()


async def test_a_stream_that_falls_silent_broke(often):
    """Between two pieces, however many there were."""

    async def script(here: Connection) -> None:
        await here.request()
        await here.send(CHUNKED)
        for _ in range(5):
            await here.send(b"1\r\na\r\n")
            await asyncio.sleep(0.03)
        await here.until_gone()

    async with backend(script) as server:
        upstream = server.upstream(timeouts=Timeouts(idle_s=0.09))
        reply = await upstream.exchange("POST", "/x", b"{}", stream=True)
        for _ in range(5):
            assert await reply.read() == b"a"

        with pytest.raises(Broke, match="timeout"):
            await reply.read()
        reply.close()
        await server.connections[0].gone.wait()


async def test_a_stream_without_end_broke(often):
    """The whole of it has a time, too."""

    async def script(here: Connection) -> None:
        await here.request()
        await here.send(CHUNKED)
        while True:
            await here.send(b"1\r\na\r\n")
            await asyncio.sleep(0.01)

    async with backend(script) as server:
        with pytest.raises(Broke, match="timeout"):
            await fetched(server.upstream(timeouts=Timeouts(total_s=0.1, idle_s=10)), stream=True)


async def test_a_head_is_not_the_first_byte(often):
    """Some backends send it before they read the prompt: the prefill has its own time all the same, longer or shorter than a silence's."""

    async def script(here: Connection) -> None:
        await here.request()
        await here.send(CHUNKED)
        await asyncio.sleep(0.12)
        await here.send(b"1\r\na\r\n0\r\n\r\n")

    async with backend(script) as server:
        patient = server.upstream(timeouts=Timeouts(first_byte_s=5, idle_s=0.04))
        assert await fetched(patient, stream=True) == (200, b"a")
        patient.close()

        hasty = server.upstream(timeouts=Timeouts(first_byte_s=0.04, idle_s=5))
        with pytest.raises(Broke, match="timeout"):
            await fetched(hasty, stream=True)


async def test_a_connection_is_waited_for_only_so_long():
    """A backend whose queue of connections is full does not answer at all."""
    upstream = Upstream("http://192.0.2.1:9", timeouts=Timeouts(connect_s=0.05))

    with pytest.raises(Refused) as caught:
        await upstream.get("/x")

    assert caught.value.reason in ("connect_timeout", "connect_failed")


# --- anything ---

PIECES = st.sampled_from(
    [
        OK,
        CHUNKED,
        b"2\r\nok\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.1 ",
        b"200 OK\r\n",
        b"content-length: 3\r\n",
        b"\r\n",
        b"abc",
        b"\x00\xff",
        b"HTTP/1.1 100 C\r\n\r\n",
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES | st.binary(max_size=20), max_size=8))
async def test_whatever_a_backend_says_an_exchange_ends(pieces):
    """As an answer, a refusal or a break, with nothing left open."""
    async with backend(says(*pieces, then_close=True)) as server:
        upstream = server.upstream(timeouts=Timeouts(total_s=2))
        with contextlib.suppress(Refused, Broke):
            status, _ = await fetched(upstream)
            assert 200 <= status <= 999
        assert upstream.n_open == 0
        upstream.close()
