"""A client's connection on real sockets: requests in every shape, clients that leave or dawdle, and what nobody should send.

Every test runs on asyncio's own loop and on uvloop, whose transports differ.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bestserve.proxy import front as module
from bestserve.proxy.front import HIGH_WATER, MOST_HEAD, MOST_HEADERS, MOST_WAITING, Front

pytestmark = pytest.mark.anyio

DATE = (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


# --- a server, an application, a client ---


@dataclass(slots=True)
class Place:
    """A server with one application."""

    port: int
    state: ServerState
    clients: list["Client"] = field(default_factory=list)

    async def client(self, sent: bytes = b"") -> "Client":
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24))
        self.clients.append(client)
        client.writer.write(sent)
        return client

    @property
    def front(self) -> Front:
        (front,) = self.state.connections
        assert isinstance(front, Front)
        return front

    def shut_down(self) -> None:
        for connection in list(self.state.connections):
            connection.shutdown()


@dataclass(slots=True)
class Client:
    """A raw client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, *, to_head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body. Raises IncompleteReadError where there is none."""
        async with asyncio.timeout(5):
            status, headers = _head(await self.reader.readuntil(b"\r\n\r\n"))
            if to_head or status in (204, 304) or status < 200:
                return status, headers, b""
            if "content-length" in headers:
                return status, headers, await self.reader.readexactly(int(headers["content-length"]))
            if headers.get("transfer-encoding") == "chunked":
                return status, headers, await self._chunks()
            return status, headers, await self.reader.read()

    async def _chunks(self) -> bytes:
        pieces = []
        while size := int(await self.reader.readline(), 16):
            pieces.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return b"".join(pieces)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(5):
            return await self.reader.read()

    async def heard(self) -> tuple[list[tuple[int, bytes]], bool]:
        """(status, body) of every answer until the server closes or says nothing more, and whether it has closed."""
        heard: list[tuple[int, bytes]] = []
        try:
            while True:
                async with asyncio.timeout(0.6):
                    status, _, body = await self.answer()
                    heard.append((status, body))
        except TimeoutError:
            return heard, False
        except (asyncio.IncompleteReadError, ConnectionError):
            return heard, True


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@contextlib.asynccontextmanager
async def place(app: ASGIApp, protocol: type[asyncio.Protocol] = Front, **how: Any) -> AsyncIterator[Place]:
    """A server on a free port."""
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", access_log=False, log_config=None, proxy_headers=False, **how)
    config.load()
    state = ServerState()
    state.default_headers = [DATE]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}, loop), "127.0.0.1", 0)  # type: ignore[call-arg]
    here = Place(server.sockets[0].getsockname()[1], state)
    try:
        yield here
    finally:
        for client in here.clients:
            client.writer.transport.abort()
        server.close()
        await until(lambda: not state.connections)
        for task in list(state.tasks):
            task.cancel()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.002)


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def say(send: Send, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it was asked."""
    said = [scope[k] for k in ("method", "path", "http_version")] + [scope["raw_path"].decode(), scope["query_string"].decode()]
    await say(send, orjson.dumps([*said, (await read(receive)).decode("latin-1")]))


async def parts(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in pieces of no announced length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"one ", b"", b"two"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b" three"})


def get(path: str = "/", version: str = "1.1", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/{version}\r\nhost: h\r\n{lines}\r\n".encode("latin-1")


def post(body: bytes, *headers: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), b"".join(headers), body)


CHUNKED = b"POST /p HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
GOOD_CHUNKS = b"3\r\nabc\r\n2;name=value\r\nde\r\n0\r\ntrailer: x\r\n\r\n"


# --- requests ---


async def test_a_connection_serves_one_request_after_the_other():
    async with place(echo) as here:
        client = await here.client()
        for i in range(3):
            client.writer.write(post(b"body %d" % i))
            status, headers, body = await client.answer()

            assert status == 200
            assert orjson.loads(body) == ["POST", "/p", "1.1", "/p", "", f"body {i}"]
            assert headers == {"date": DATE[1].decode(), "content-length": str(len(body))}


async def test_pipelined_requests_are_answered_in_order():
    """Also more of them than may wait at once, whose answers take unlike times."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.01 if scope["path"] == "/0" else 0)
        await say(send, scope["path"].encode() + await read(receive))

    n = MOST_WAITING * 3
    async with place(slow) as here:
        client = await here.client()
        for i in range(n):
            client.writer.write(post(b"-%d" % i).replace(b"/p", b"/%d" % i))
            await asyncio.sleep(0.0005)
        assert [(await client.answer())[2] for _ in range(n)] == [b"/%d-%d" % (i, i) for i in range(n)]
        assert not here.front.is_paused


@pytest.mark.parametrize("raw", [post(b"abcde"), CHUNKED + GOOD_CHUNKS], ids=["length", "chunked"])
async def test_a_request_in_bits_of_one_byte(raw):
    async with place(echo) as here:
        client = await here.client()
        client.writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(raw)):
            client.writer.write(raw[i : i + 1])
            await asyncio.sleep(0.0002)
        status, _, body = await client.answer()

        assert (status, orjson.loads(body)[-1]) == (200, "abcde")


@pytest.mark.parametrize(
    ("target", "path", "raw", "query"),
    [
        ("/a%20b%2Fc?x=%20y", "/a b/c", "/a%20b%2Fc", "x=%20y"),
        ("http://elsewhere:1/a?q", "/a", "/a", "q"),
        ("http://elsewhere", "/", "/", ""),
        ("//a/b", "//a/b", "//a/b", ""),
        ("/%ff", "/\ufffd", "/%ff", ""),
        ("/a??b?", "/a", "/a", "?b?"),
    ],
)
async def test_a_target_in_each_form(target, path, raw, query):
    async with place(echo) as here:
        client = await here.client(get(target))
        assert orjson.loads((await client.answer())[2])[1:5] == [path, "1.1", raw, query]


async def test_an_asterisk_is_a_path():
    async with place(echo) as here:
        client = await here.client(b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n")
        assert orjson.loads((await client.answer())[2])[:2] == ["OPTIONS", "*"]


async def test_what_an_application_is_told_of_a_request():
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await say(send, b"")

    async with place(app) as here:
        client = await here.client(b"GET / HTTP/1.1\r\nHost: H\r\nX-Two:  a b\r\nx-two: c\r\n\r\n")
        await client.answer()

        (scope,) = seen
        assert scope["headers"] == [(b"host", b"H"), (b"x-two", b"a b"), (b"x-two", b"c")]
        assert (scope["type"], scope["scheme"], scope["root_path"], scope["state"]) == ("http", "http", "", {})
        assert scope["server"] == ("127.0.0.1", here.port)
        assert scope["client"] == client.writer.get_extra_info("sockname")


async def test_a_client_that_waits_to_be_told_is_told():
    """And only when somebody wants the body."""
    async with place(echo) as here:
        client = await here.client(post(b"", b"Expect: 100-Continue\r\n").replace(b"length: 0", b"length: 4"))
        assert (await client.answer())[0] == 100
        client.writer.write(b"body")
        status, headers, body = await client.answer()
        assert (status, orjson.loads(body)[-1]) == (200, "body")
        assert "connection" not in headers


async def test_a_client_that_was_not_told_to_send_its_body_is_let_go():
    """Whether it sends the body all the same cannot be known, so what comes next is read by nobody."""

    async def no(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"no", status=413)

    async with place(no) as here:
        client = await here.client(post(b"", b"expect: 100-continue\r\n").replace(b"length: 0", b"length: 40") + get("/smuggled"))
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (413, "close", b"no")
        assert await client.rest() == b""


async def test_a_body_that_comes_without_being_told_to_needs_no_telling():
    async with place(echo) as here:
        client = await here.client(post(b"body", b"expect: 100-continue\r\n"))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("connection", [None, "keep-alive"])
async def test_http_1_0_is_answered_and_closed(connection):
    async with place(parts) as here:
        client = await here.client(get(version="1.0", **({"connection": connection} if connection else {})))
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"one two three")
        assert "transfer-encoding" not in headers
        assert await client.rest() == b""


async def test_a_client_that_says_so_is_the_last():
    async with place(echo) as here:
        client = await here.client(get(connection="close"))
        assert (await client.answer())[1]["connection"] == "close"
        assert await client.rest() == b""


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
@pytest.mark.parametrize("body", [b"", b"body"])
async def test_an_upgrade_is_answered_as_a_plain_request_and_closed(upgrade, body):
    """And nothing behind it is a request."""
    async with place(echo) as here:
        raw = post(body, b"connection: upgrade, http2-settings\r\nupgrade: " + upgrade.encode() + b"\r\n")
        client = await here.client(raw + get("/smuggled"))
        status, headers, said = await client.answer()
        assert (status, headers["connection"], orjson.loads(said)[-1]) == (200, "close", body.decode())
        assert await client.rest() == b""


# --- answers ---


async def test_head_and_body_are_one_write():
    async with place(echo) as here:
        written: list[bytes] = []
        client = await here.client()
        await until(lambda: bool(here.state.connections))
        real = here.front.transport

        class Seen:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def write(self, data: bytes) -> None:
                written.append(data)
                real.write(data)

        here.front.transport = Seen()  # type: ignore[assignment]
        client.writer.write(get())
        await client.answer()
        assert len(written) == 1


async def test_an_answer_in_pieces_is_chunked_and_the_next_follows():
    async with place(parts) as here:
        client = await here.client(get() + get())
        for _ in range(2):
            status, headers, body = await client.answer()
            assert (status, headers["transfer-encoding"], body) == (200, "chunked", b"one two three")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_has_none(method, status):
    """Its headers say what they would say, and the next answer is read at the right place."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"body" if status == 200 else b"", status=status, headers=((b"content-length", b"4"),) if status == 200 else ())

    async with place(app) as here:
        raw = get().replace(b"GET", method.encode())
        client = await here.client(raw + raw)
        for _ in range(2):
            got, headers, _ = await client.answer(to_head=True)
            assert got == status
            assert headers.get("content-length") == ("4" if status == 200 else None)
            assert "transfer-encoding" not in headers


async def test_an_application_may_close():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"bye", headers=((b"connection", b"close"),))

    async with place(app) as here:
        client = await here.client(get() + get())
        raw = await client.rest()
        assert raw.count(b"HTTP/1.1") == raw.count(b"connection: close") == 1


@pytest.mark.parametrize("bad", [b"a\r\nset-cookie: x", b"a\nb", b"a\rb", b"a\0b", b"a\x7f"])
async def test_a_header_that_would_be_two_is_never_written(bad, caplog):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"body", headers=((b"x-bad", bad),))

    async with place(app) as here:
        with caplog.at_level(logging.CRITICAL, "bestserve"):
            client = await here.client(get())
            status, headers, _ = await client.answer()
        assert status == 500
        assert "x-bad" not in headers
        assert await client.rest() == b""


FAULTS: dict[str, list[dict[str, Any]]] = {
    "before its answer": [],
    "behind its head": [{"type": "http.response.start", "status": 200, "headers": []}],
    "with a body too long": [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]},
        {"type": "http.response.body", "body": b"two"},
    ],
    "with a body and no head": [{"type": "http.response.body", "body": b"two"}],
    "with two heads": [{"type": "http.response.start", "status": 200, "headers": []}] * 2,
}


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("messages", FAULTS.values(), ids=FAULTS)
async def test_an_application_that_fails_is_answered_for_once(messages, raises, caplog):
    """In OpenAI's shape, without a word of what it was."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if raises:
            raise LookupError("inside")

    async with place(app) as here:
        with caplog.at_level(logging.CRITICAL, "bestserve"):
            client = await here.client(get())
            raw = await client.rest()
        head, _, body = raw.partition(b"\r\n\r\n")
        assert _head(head)[0] == 500
        assert _head(head)[1]["connection"] == "close"
        assert orjson.loads(body)["error"]["type"] == "server_error"
        assert b"inside" not in raw
        assert not here.state.tasks


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_that_breaks_off_is_seen_to(announced, caplog):
    """The client gets what there is, and no end that would look whole."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")] if announced else []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError

    async with place(app) as here:
        with caplog.at_level(logging.CRITICAL, "bestserve"):
            client = await here.client(get())
            with pytest.raises((asyncio.IncompleteReadError, ValueError)):
                await client.answer()


# --- clients that leave ---


@pytest.mark.parametrize("when", ["before", "in the body", "during", "behind"])
async def test_a_client_that_leaves_is_told_of_at_once(when):
    told: list[str] = []
    ready = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if when != "in the body":
            await read(receive)
        if when in ("during", "behind"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": when == "during"})
        ready.set()
        while (message := await receive())["type"] == "http.request":
            pass
        await send({"type": "http.response.body", "body": b"nobody reads this", "more_body": True} if when == "during" else {"type": "?"})
        told.append(message["type"])

    async with place(app) as here:
        client = await here.client(post(b"body") if when != "in the body" else CHUNKED + b"1\r\nx\r\n")
        async with asyncio.timeout(5):
            await ready.wait()
        client.writer.transport.abort()
        await until(lambda: not here.state.connections and not here.state.tasks)
        assert told == (["http.disconnect"] if when != "behind" else [])


async def test_behind_its_answer_an_application_has_nobody_left():
    """A receive that waits when the answer ends is told so, and does not wait for the connection's end."""
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await say(send, b"done")
        told.append((await waiting)["type"])
        told.append((await receive())["type"])

    async with place(app) as here:
        client = await here.client(post(b"body"))
        await client.answer()
        await until(lambda: not here.state.tasks)
        assert told == ["http.disconnect"] * 2
        assert here.state.connections


async def test_a_client_that_leaves_with_requests_waiting_has_none_of_them_begun():
    begun: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        while (await receive())["type"] != "http.disconnect":
            pass

    async with place(app) as here:
        client = await here.client(get("/1") + get("/2") + get("/3"))
        await until(lambda: bool(begun))
        client.writer.transport.abort()
        await until(lambda: not here.state.connections and not here.state.tasks)
        assert begun == ["/1"]


# --- who is slow ---


async def test_a_slow_reader_stops_the_stream_and_not_the_memory():
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
            sent += 50_000
        await send({"type": "http.response.body", "body": b""})

    async with place(app) as here:
        client = await here.client()
        client.writer.transport.pause_reading()
        client.writer.write(get())
        await until(lambda: here.state.connections != set() and here.front.is_full)
        await asyncio.sleep(0.1)
        assert here.front.transport.get_write_buffer_size() < 400_000
        stopped = sent
        await asyncio.sleep(0.05)
        assert sent == stopped < 49_000_000

        client.writer.transport.resume_reading()
        assert len((await client.answer())[2]) == 50_000_000


async def test_a_send_that_was_cancelled_while_it_waited_leaves_the_next_its_turn():
    """A goodbye, say, to a slow reader."""
    outcome: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            async with asyncio.timeout(0.2):
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
        except TimeoutError:
            outcome.append("cancelled")
        await send({"type": "http.response.body", "body": b"goodbye"})
        outcome.append("said")

    async with place(app) as here:
        client = await here.client()
        client.writer.transport.pause_reading()
        client.writer.write(get())
        await until(lambda: outcome == ["cancelled"])
        client.writer.transport.resume_reading()
        assert (await client.answer())[2].endswith(b"goodbye")
        assert outcome == ["cancelled", "said"]


async def test_a_body_that_nobody_receives_is_not_read():
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await say(send, b"%d" % len(await read(receive)))

    async with place(app) as here:
        client = await here.client(post(b"x" * 20_000_000))
        await until(lambda: here.state.connections != set() and here.front.is_paused)
        await asyncio.sleep(0.1)
        assert sum(exchange.n_unread for exchange in here.front._exchanges) < HIGH_WATER + 300_000
        go.set()
        assert (await client.answer())[2] == b"20000000"


async def test_a_body_that_is_refused_is_read_and_dropped():
    """So that a client that sends before it listens hears of it, and the connection goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"no", status=413) if scope["method"] == "POST" else await echo(scope, receive, send)

    async with place(app) as here:
        client = await here.client(post(b"x" * 20_000_000) + get("/next"))
        assert (await client.answer())[0] == 413
        assert orjson.loads((await client.answer())[2])[1] == "/next"


@pytest.mark.parametrize(
    ("sent", "limit"), [(b"GET / HTTP/1.1\r\nx: ", "HEAD_S"), (b"", "timeout_keep_alive"), (get(), "timeout_keep_alive")]
)
async def test_who_keeps_a_connection_waiting_is_let_go(sent, limit, monkeypatch):
    """A head that does not end, and a connection that asks nothing; an answer under way has all the time it needs."""
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "HEAD_S", 0.1 if limit == "HEAD_S" else 60)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        await say(send, b"")

    async with place(app, timeout_keep_alive=0.1 if limit != "HEAD_S" else 60) as here:
        client = await here.client(sent)
        if sent == get():
            assert (await client.answer())[0] == 200
        began = asyncio.get_running_loop().time()
        assert await client.rest() == b""
        assert 0.05 < asyncio.get_running_loop().time() - began < 2


async def test_a_head_that_drips_is_let_go(monkeypatch):
    """Bytes do not prolong it."""
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    monkeypatch.setattr(module, "HEAD_S", 0.2)
    async with place(echo) as here:
        client = await here.client(b"GET / HTTP/1.1\r\nx: ")
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError, RuntimeError):  # whichever of them a loop has for a connection that is gone
            while not client.reader.at_eof():
                client.writer.write(b"x")
                await asyncio.sleep(0.01)
        assert 0.15 < asyncio.get_running_loop().time() - began < 10


# --- the end ---


async def test_shutting_down_closes_idle_connections_at_once():
    async with place(echo) as here:
        used, fresh, half = await here.client(get()), await here.client(), await here.client(b"GET / HT")
        await used.answer()
        await until(lambda: len(here.state.connections) == 3 and any(front._in_head for front in here.state.connections))
        here.shut_down()
        for client in (used, fresh, half):
            assert await client.rest() == b""
        await until(lambda: not here.state.connections)


@pytest.mark.parametrize("has_begun", [False, True])
async def test_shutting_down_lets_an_answer_finish_and_begins_no_other(has_begun):
    go, begun = asyncio.Event(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if has_begun:
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with place(app) as here:
        client = await here.client(get("/1") + get("/2"))
        await until(lambda: bool(begun))
        here.shut_down()
        client.writer.write(get("/3"))
        await asyncio.sleep(0.02)
        go.set()
        _, headers, body = await client.answer()
        assert body == (b"one two" if has_begun else b"two")
        assert headers.get("connection") == (None if has_begun else "close")
        assert await client.rest() == b""
        assert begun == ["/1"]


async def test_shutting_down_lets_a_body_arrive():
    async with place(echo) as here:
        client = await here.client(post(b"half").replace(b"length: 4", b"length: 8"))
        await until(lambda: bool(here.state.tasks))
        here.shut_down()
        client.writer.write(b"half")
        status, headers, body = await client.answer()
        assert (status, headers["connection"], orjson.loads(body)[-1]) == (200, "close", "halfhalf")


# --- what nobody should send ---

TWICE = get("/smuggled")
BAD = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "connect": b"CONNECT other:443 HTTP/1.1\r\nhost: other\r\n\r\n",
    "bad version": b"GET / HTTP/1.x\r\n\r\n",
    "bad method": b"BREW / HTTP/1.1\r\nhost: h\r\n\r\n",
    "http 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "space in target": b"GET /a b HTTP/1.1\r\nhost: h\r\n\r\n",
    "target not ascii": "GET /\u00e9 HTTP/1.1\r\nhost: h\r\n\r\n".encode(),
    "no target": b"GET  HTTP/1.1\r\nhost: h\r\n\r\n",
    "length and chunked": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nX",
    "chunked and length": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\nX",
    "two lengths": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy",
    "two equal lengths": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "list of lengths": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1, 1\r\n\r\nx",
    "signed length": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +1\r\n\r\nx",
    "negative length": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\nx",
    "length in hex": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0x1\r\n\r\nx",
    "empty length": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length:\r\n\r\n",
    "length overflow": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 18446744073709551617\r\n\r\nx",
    "unknown coding": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "bare lf in the head": b"GET / HTTP/1.1\nhost: h\n\n",
    "bare lf behind a header": b"GET / HTTP/1.1\r\nhost: h\nx: y\r\n\r\n",
    "bare cr in a header": b"GET / HTTP/1.1\r\nhost: h\rx: y\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nhost: h\r\nx: a\r\n b\r\n\r\n",
    "space before the colon": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length : 1\r\n\r\nx",
    "space before a header": b"GET / HTTP/1.1\r\n x: y\r\nhost: h\r\n\r\n",
    "header without a colon": b"GET / HTTP/1.1\r\nhost: h\r\nnothing\r\n\r\n",
    "header without a name": b"GET / HTTP/1.1\r\nhost: h\r\n: x\r\n\r\n",
    "nul in a value": b"GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n",
    "nul in a name": b"GET / HTTP/1.1\r\nhost: h\r\nx\0y: a\r\n\r\n",
    "chunk size overflow": CHUNKED + b"10000000000000001\r\nx\r\n0\r\n\r\n",
    "chunk size not hex": CHUNKED + b"g\r\nx\r\n0\r\n\r\n",
    "chunk size signed": CHUNKED + b"+1\r\nx\r\n0\r\n\r\n",
    "chunk size in 0x": CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    "chunk longer than said": CHUNKED + b"1\r\nxy\r\n0\r\n\r\n",
    "chunk ends in lf": CHUNKED + b"1\nx\n0\n\n",
    "lf in a chunk's extension": CHUNKED + b"1;a\nb\r\nx\r\n0\r\n\r\n",
}
"""Each must be refused: one 400, and the connection closed, whatever comes behind it."""

ODD = {
    "plain": get(connection="close"),
    "absolute": get("http://other/a?b", connection="close"),
    "chunked": CHUNKED + GOOD_CHUNKS,
    "empty lines first": b"\r\n\r\n" + get(),
    "pipelined": get("/1") + post(b"two") + CHUNKED + GOOD_CHUNKS,
    "closing, and more": get("/1", connection="close") + get("/2"),
    "old, and more": get("/1", version="1.0", connection="keep-alive") + get("/2"),
    "http 0.9": b"GET / HTTP/0.9\r\n\r\n",
    "http 2.0": b"GET / HTTP/2.0\r\nhost: h\r\n\r\n",
    "old and chunked": CHUNKED.replace(b"1.1", b"1.0") + GOOD_CHUNKS + TWICE,
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n",
    "path of dots": get("/../../etc"),
    "get with a body": post(b"abc").replace(b"POST", b"GET"),
    "upgrade": get(connection="upgrade", upgrade="h2c") + TWICE,
    "upgrade with a body": post(b"body", b"connection: upgrade\r\nupgrade: h2c\r\n") + TWICE,
    "latin-1 in a value": get(x="\u00e9"),
    "tab in a value": get(x="a\tb"),
    "many headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MOST_HEADERS - 1) + b"\r\n",
    "coding in capitals": CHUNKED.replace(b"chunked", b"CHUNKED") + GOOD_CHUNKS,
    "identity then chunked": CHUNKED.replace(b"chunked", b"identity, chunked") + GOOD_CHUNKS,
}
"""Each is answered; not everything that is odd is wrong."""

DIFFERENCES = {
    "upgrade": "there the connection stays open behind the answer though nothing is read from it any more; here it is closed",
    "upgrade with a body": "and its body is lost there",
}
"""What a client sees otherwise than from uvicorn. Further, a refusal and a failure have OpenAI's shape here and are plain text there, and
an answer that comes at once without a content-length gets one here and is chunked there."""


def _statuses(heard: tuple[list[tuple[int, bytes]], bool]) -> tuple[list[int], bool]:
    return [status for status, _ in heard[0]], heard[1]


async def _ask_all(protocol: type[asyncio.Protocol], raws: dict[str, bytes]) -> dict[str, tuple[list[tuple[int, bytes]], bool]]:
    logging.getLogger("uvicorn.error").disabled = True
    try:
        async with place(echo, protocol) as here:
            heard = await asyncio.gather(*[(await here.client(raw)).heard() for raw in raws.values()])
            return dict(zip(raws, heard, strict=True))
    finally:
        logging.getLogger("uvicorn.error").disabled = False


async def test_what_could_be_read_in_two_ways_is_read_in_none():
    """A 400 for each of them, an end, and no second request out of one."""
    heard = await _ask_all(Front, {name: raw + TWICE for name, raw in BAD.items()})
    assert {name: _statuses(said) for name, said in heard.items()} == dict.fromkeys(BAD, ([400], True))


async def test_bad_requests_are_refused_as_uvicorn_refuses_them():
    ours, theirs = await _ask_all(Front, BAD), await _ask_all(HttpToolsProtocol, BAD)
    assert {name: _statuses(said) for name, said in ours.items()} == {name: _statuses(said) for name, said in theirs.items()}


async def test_odd_requests_are_answered_as_uvicorn_answers_them():
    """To the byte, but for the differences that are listed with their reasons."""
    ours, theirs = await _ask_all(Front, ODD), await _ask_all(HttpToolsProtocol, ODD)
    assert {name for name in ODD if ours[name] != theirs[name]} == set(DIFFERENCES)


async def test_a_bad_request_behind_a_good_one_leaves_the_good_one_its_answer():
    """And is not told between the two halves of it."""
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await say(send, b"good")

    async with place(app) as here:
        client = await here.client(get() + BAD["bad method"])
        await until(lambda: bool(here.state.tasks))
        go.set()
        assert (await client.answer())[2] == b"good"
        assert await client.rest() == b""


async def test_a_body_that_breaks_is_refused_and_its_request_is_over():
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        told.append(message["type"])

    async with place(app) as here:
        client = await here.client(CHUNKED + b"1\r\nx\r\n")
        await until(lambda: bool(here.state.tasks))
        client.writer.write(b"no chunk\r\n")
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""
        await until(lambda: not here.state.tasks)
        assert told == ["http.disconnect"]


async def test_a_body_that_breaks_behind_the_answers_beginning_is_only_cut_off():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] == "http.request":
            pass

    async with place(app) as here:
        client = await here.client(CHUNKED + b"1\r\nx\r\n")
        assert b"200" in await client.reader.readuntil(b"x\r\n")
        client.writer.write(b"no chunk\r\n")
        assert await client.rest() == b""


TOO_MUCH = {
    "one long header": b"GET / HTTP/1.1\r\nx: " + b"y" * MOST_HEAD + b"\r\n\r\n",
    "a long target": b"GET /" + b"y" * MOST_HEAD + b" HTTP/1.1\r\n\r\n",
    "many long headers": b"GET / HTTP/1.1\r\n" + (b"x: " + b"y" * 8000 + b"\r\n") * 9 + b"\r\n",
    "too many headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MOST_HEADERS + 1) + b"\r\n",
    "a header without end": b"GET / HTTP/1.1\r\nx: " + b"y" * 1_000_000,
    "headers without end": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 100_000,
    "a trailer without end": CHUNKED + b"0\r\nx: " + b"y" * 1_000_000,
    "a chunk's extension without end": CHUNKED + b"1;" + b"y" * 1_000_000,
}


@pytest.mark.parametrize("raw", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_a_head_over_its_limits_is_refused(raw):
    """Also where it comes as a trailer or in a chunk's first line, and at the latest when four times as much has come."""
    async with place(echo) as here:
        client = await here.client()
        answer = asyncio.ensure_future(client.answer())
        for start in range(0, len(raw), 30_000):
            client.writer.write(raw[start : start + 30_000])
            await asyncio.sleep(0.01)
            if answer.done():
                break
        status, headers, body = await answer
        assert start < 4 * MOST_HEAD
        assert (status, headers["connection"]) == (431, "close")
        assert orjson.loads(body)["error"]["code"] == "head_too_large"


async def test_a_head_within_its_limits_is_taken():
    async with place(echo) as here:
        client = await here.client(b"GET / HTTP/1.1\r\nx: " + b"y" * (MOST_HEAD - 100) + b"\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_a_large_body_is_no_head():
    """Nor is a chunk that comes in many pieces."""
    async with place(echo) as here:
        client = await here.client(post(b"x" * 1_000_000) + CHUNKED + b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n0\r\n\r\n" + get())
        assert [(await client.answer())[0] for _ in range(3)] == [200] * 3
