"""One connection from a client: HTTP/1.1 over httptools' parser, spoken to an ASGI application, under uvicorn's server.

Facts
    uvicorn's own protocol is made for any application. Ours answers a request in two messages; there, head and body are two writes,
    and each request costs a timer, an event and a callback. `docs/decisions/0018-our-own-front.md` has what was measured.

Plan
    A Front makes an Exchange of each request that it parses; one is answered at a time, in order. An answer's head is held until the
    first piece of its body, and written with it. One timer a connection looks every few seconds whether it waits for too long.
    uvicorn keeps what it is good at: the sockets, the signals, the lifespan, the ordered end.

Limits
    A head has HEAD_S seconds, MOST_HEAD bytes and MOST_HEADERS lines. What is no HTTP, or could be read in two ways, is answered 400 and
    the connection closed; llhttp in its strict mode is the judge. Of a body that waits to be received, and of requests that wait to be
    answered, HIGH_WATER bytes are held before the socket is read no further.

What is not handled: HTTP/2, and upgrades. A request that asks for one (Java's client does, for h2c, of each first request) is answered as
if it had not, and the connection closed behind it.
"""

import asyncio
import logging
from collections import deque
from itertools import chain
from typing import Any
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Scope
from uvicorn.server import ServerState

from .framing import Framing, refusal

log = logging.getLogger("bestserve")

HIGH_WATER = 64 * 1024
MOST_HEAD = 64 * 1024
MOST_HEADERS = 128
MOST_WAITING = 16
"""Requests on one connection that wait for the answer to another."""

HEAD_S = 10.0
LOOK_S = 5.0
"""Between two looks at a connection: what may last HEAD_S lasts up to LOOK_S more."""


class Front(asyncio.Protocol):
    """See the head of this file. The constructor's arguments are uvicorn's."""

    transport: asyncio.Transport

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.server = server_state
        self.is_closing = False  # nothing is begun any more
        self.is_full = False  # enough waits to be written
        self.is_paused = False  # enough waits to be received or answered
        self._app, self._app_state, self._patience_s = config.loaded_app, app_state, config.timeout_keep_alive
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)  # None: nothing is read any more
        self._exchanges: deque[Exchange] = deque()  # the first is being answered
        self._arriving: Exchange | None = None  # whose body is still coming
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = self._in_head = False
        self._n_mute = 0  # bytes of which nothing is known yet: of a head, of a trailer, of a chunk's first line
        self._since = self.loop.time()  # it waits for a head, or for the head's end

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.server.connections.add(self)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(LOOK_S, self._look)
        self._ends = {
            "server": _address(transport, "sockname"),
            "client": _address(transport, "peername"),
            "scheme": "http" if transport.get_extra_info("sslcontext") is None else "https",
        }

    def connection_lost(self, error: Exception | None) -> None:
        self.server.connections.discard(self)
        self._timer.cancel()
        self._parser = None
        for exchange in self._exchanges:
            exchange.lose()

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        self._n_mute += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(self._plain + data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(431 if isinstance(error.__context__, _TooMuch) else 400)
        else:
            if self._n_mute > MOST_HEAD:
                self._refuse(431)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._exchanges:
            self._exchanges[0].wake()

    # --- uvicorn ---

    def shutdown(self) -> None:
        """Close as soon as the answer under way is over. What waits behind it is not begun."""
        self.is_closing = True
        while len(self._exchanges) > 1:
            self._exchanges.pop().lose()
        if not self._exchanges:
            self.transport.close()

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._url, self._headers, self._expects = b"", [], False
        self._in_head, self._n_mute, self._since = True, 0, self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect":
            self._expects = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        assert parser is not None
        self._headers = []  # for trailers, which nobody reads
        self._in_head, self._n_mute = False, 0
        if len(headers) > MOST_HEADERS or len(self._url) + sum(map(len, chain.from_iterable(headers))) > MOST_HEAD:
            raise _TooMuch
        method, version = parser.get_method(), parser.get_http_version()
        if parser.should_upgrade():
            self._plain = _plain(method, self._url, version, headers)
            return
        path, query = _target(self._url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": path.encode("ascii"),
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "state": self._app_state.copy(),
            **self._ends,
        }
        keeps = version == "1.1" and parser.should_keep_alive()
        self._arriving = Exchange(self, scope, keeps=keeps, expects=self._expects)
        if not self.is_closing:
            self._queue(self._arriving)

    def on_body(self, body: bytes) -> None:
        self._n_mute = 0
        if self._arriving is not None:
            self._arriving.take(body)

    def on_message_complete(self) -> None:
        self._n_mute = 0
        if self._arriving is not None:
            self._arriving.complete()
            self._arriving = None

    # --- for an Exchange ---

    def over(self, *, keeps: bool) -> None:
        """The answer under way is complete; `keeps` the connection for the next."""
        self.server.total_requests += 1
        self._exchanges.popleft()
        self._since = self.loop.time()
        if not keeps or self.is_closing or (self._parser is None and not self._exchanges):
            self.transport.close()
            return
        if self._exchanges:
            self._begin(self._exchanges[0])
        if self.is_paused:
            self.balance()

    def balance(self) -> None:
        """Read on, unless there is enough to do."""
        enough = len(self._exchanges) > MOST_WAITING or sum(exchange.n_unread for exchange in self._exchanges) > HIGH_WATER
        if enough is self.is_paused or self.transport.is_closing():
            return
        self.is_paused = enough
        if enough:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # --- below: how ---

    def _queue(self, exchange: "Exchange") -> None:
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            self._begin(exchange)
        elif len(self._exchanges) > MOST_WAITING:
            self.balance()

    def _begin(self, exchange: "Exchange") -> None:
        self.server.tasks.add(self.loop.create_task(exchange.run(self._app)))

    def _refuse(self, status: int) -> None:
        """What came cannot be read, and nothing is read behind it. It is told so, unless its answer has begun; answers that are under way
        for what came before go on."""
        self._parser = None
        broken, self._arriving = self._arriving, None
        untold = broken is None or not (broken.has_begun or self.is_closing)
        if broken is not None and broken in self._exchanges:
            self._exchanges.remove(broken)
            broken.lose()
        if self._exchanges:
            return
        if untold:
            self.transport.write(refusal(status, self.server.default_headers))
        self.transport.close()

    def _look(self) -> None:
        """Close a connection that has waited for long. A timer for each request would cost more than this one for all."""
        waited_s = 0.0 if self._exchanges else self.loop.time() - self._since
        if waited_s >= (HEAD_S if self._in_head else self._patience_s):
            self.transport.close()
        else:
            self._timer = self.loop.call_later(LOOK_S, self._look)


class Exchange:
    """One request and its answer: what ASGI calls receive and send."""

    __slots__ = (
        "_complete",
        "_expects",
        "_framing",
        "_front",
        "_given",
        "_keeps",
        "_lost",
        "_over",
        "_pieces",
        "_scope",
        "_waiters",
        "has_begun",
        "n_unread",
    )

    def __init__(self, front: Front, scope: Scope, *, keeps: bool, expects: bool) -> None:
        self._front = front
        self._scope = scope
        self._keeps = keeps
        self._expects = expects  # waits to be told to send its body
        self._pieces: list[bytes] = []  # of the body, not received yet
        self.n_unread = 0  # bytes of these
        self._complete = self._given = False  # all of the body has come; has been received
        self._waiters: list[asyncio.Future[None]] = []
        self._framing: Framing | None = None  # of the answer, once it has a head
        self.has_begun = False  # a byte of the answer has been written
        self._over = self._lost = False

    # --- for a Front ---

    def take(self, body: bytes) -> None:
        """A piece of the request's body. One that comes behind the answer is dropped."""
        if self._over or self._lost:
            return
        self._pieces.append(body)
        self.n_unread += len(body)
        if self.n_unread > HIGH_WATER:
            self._front.balance()
        self.wake()

    def complete(self) -> None:
        """All of the body has come."""
        self._complete = True
        self.wake()

    def lose(self) -> None:
        """The client has gone, or will not be answered."""
        self._lost = True
        self.wake()

    def wake(self) -> None:
        """Whoever waits looks again at what is the case."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer. An answer that it does not end, or does not begin, is ended here."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            log.exception("%s %r failed", self._scope["method"], self._scope["path"][:200])
        finally:
            self._front.server.tasks.discard(asyncio.current_task())
            if not self._over and not self._lost:
                self._give_up()

    # --- ASGI ---

    async def receive(self) -> Message:
        """The next piece of the body; behind the last one, the client's leaving."""
        if self._expects and not (self._pieces or self._complete or self.has_begun or self._lost):
            self._expects = False
            self._front.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._lost or self._over or ((self._pieces or self._complete) and not self._given)):
            await self._wait()
        if self._lost or self._over:
            return {"type": "http.disconnect"}
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self.n_unread, self._given = [], 0, self._complete
        if self._front.is_paused:
            self._front.balance()
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def send(self, message: Message) -> None:
        """A message of the answer. Nothing happens when nobody is there any more."""
        while self._front.is_full and not self._lost:
            await self._wait()
        if self._lost:
            return
        framing = self._framing
        if self._over or (message["type"] == "http.response.start") is not (framing is None):
            raise RuntimeError(f"{message['type']} does not come here")
        if framing is None:
            self._framing = Framing(message, method=self._scope["method"], version=self._scope["http_version"], keeps=self._keeps)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.has_begun:
            data = framing.framed(body, more)
        else:
            unasked = self._expects and not self._complete  # a body that may come or not: what comes next could be either
            framing.keeps = framing.keeps and not unasked and not self._front.is_closing
            data = framing.opened(self._front.server.default_headers, body, more)
            self.has_begun = True
        if data:
            self._front.transport.write(data)
        if not more:
            self._end(keeps=framing.keeps)

    # --- below: how ---

    def _end(self, *, keeps: bool) -> None:
        self._over = True
        self._pieces, self.n_unread = [], 0
        self.wake()
        self._front.over(keeps=keeps)

    def _give_up(self) -> None:
        """The application is done and its answer is not."""
        if not self.has_begun:
            self._front.transport.write(refusal(500, self._front.server.default_headers))
        self._end(keeps=False)

    async def _wait(self) -> None:
        waiter = self._front.loop.create_future()
        self._waiters.append(waiter)
        await waiter


class _TooMuch(Exception):
    """A head over its limits."""


def _target(url: bytes) -> tuple[str, bytes]:
    """Path and query of a request's target, whichever form it has. Raises ValueError for what is not ASCII."""
    if not url.startswith(b"/"):
        parts = httptools.parse_url(url)
        return (parts.path or b"/").decode("ascii"), parts.query or b""
    path, _, query = url.partition(b"#")[0].partition(b"?")
    return path.decode("ascii"), query


def _plain(method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of a request that asks for an upgrade, as one that does not: its body, if it has one, is read like any other's, and its
    connection is closed. Raises ValueError for CONNECT, which asks for nothing else."""
    if method == b"CONNECT":
        raise ValueError("CONNECT")
    lines = [b": ".join(header) for header in headers if header[0] not in (b"connection", b"upgrade")]
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, url, version.encode()), *lines, b"connection: close", b"", b""])


def _address(transport: asyncio.BaseTransport, which: str) -> tuple[str, int] | None:
    """Host and port of one end; None where it has none."""
    found = transport.get_extra_info(which)
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
