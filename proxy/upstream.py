"""Connections to one backend: HTTP/1.1 over a bare asyncio protocol, kept alive and reused.

Facts
    On one core a general client library costs more than everything else that the proxy does: `bench/README.md` compares them. What is
    needed here is little: POST a body, read a head, read a body as it comes, and hang up at once when told to.

Goals
    A reply's bytes are handed on in as few pieces as they came from the socket. A slow reader stops the socket, not the memory.
    Hanging up closes the connection, which is how SGLang learns that nobody waits any more.
    Redirects are never followed. Nothing is retried but a request on a kept connection that the other side had already closed.

Timeouts are kept by a sweep over the open exchanges instead of a timer for each read: a timer a token would cost as much as the token.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from .errors import Broke, Refused

HIGH_WATER = 256 * 1024
SWEEP_S = 0.25
MOST_IDLE = 512
CLOSED = "closed"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Each binds from where its name says."""

    connect_s: float = 2.0
    first_byte_s: float = 120.0  # from sending the request to the first byte of the reply's body, of a stream
    idle_s: float = 120.0  # between two pieces of a stream
    total_s: float = 600.0  # the whole exchange


class Upstream:
    """The connections to one backend."""

    def __init__(self, url: str, *, timeouts: Timeouts = Timeouts(), api_key: str | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self.timeouts = timeouts
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/")
        self._fixed = _fixed_headers(parts.netloc, api_key)
        self._idle: list[_Wire] = []
        self._open: set[_Wire] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(self, method: str, path: str, body: bytes = b"", *, stream: bool = False) -> "Reply":
        """Send a request and return once the reply's head is here. Raises Refused when there is no head to be had.

        The caller must `close` the Reply, whatever happens.
        """
        request = self._request(method, path, body)
        while True:
            wire, kept = await self._wire()
            wire.start(request, stream, self.timeouts)
            self._open.add(wire)
            self._keep_sweeping()
            try:
                await wire.head()
            except Refused as refused:
                self._open.discard(wire)
                if kept and wire.untouched and refused.reason == CLOSED:
                    continue  # the other side had closed a kept connection before it saw this request
                raise
            except BaseException:
                self._drop(wire)
                raise
            return Reply(wire, self._finished)

    async def get(self, path: str) -> tuple[int, bytes]:
        """GET a small document: its status and body. Raises BackendFailure."""
        reply = await self.exchange("GET", path)
        try:
            return reply.status, await reply.whole()
        finally:
            reply.close()

    def close(self) -> None:
        """Close idle connections; open exchanges go on until their Reply is closed."""
        self._closed = True
        for wire in self._idle:
            wire.hang_up()
        self._idle.clear()

    @property
    def n_open(self) -> int:
        """Exchanges under way."""
        return len(self._open)

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        head = f"{method} {self._base}{path} HTTP/1.1\r\n".encode("ascii") + self._fixed
        if method != "GET":
            head += b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        return head + b"\r\n" + body

    async def _wire(self) -> tuple["_Wire", bool]:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_alive:
                return wire, True
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                _, wire = await loop.create_connection(
                    lambda: _Wire(loop), self._host, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
                )
        except TimeoutError as error:
            raise Refused("connect_timeout") from error
        except OSError as error:
            raise Refused("connect_failed", message=type(error).__name__) from error
        return wire, False

    def _finished(self, wire: "_Wire") -> None:
        """Take a wire back from its Reply: for another request if it is clean, else hang up."""
        self._open.discard(wire)
        if wire.is_reusable and not self._closed and len(self._idle) < MOST_IDLE:
            self._idle.append(wire)
        else:
            wire.hang_up()

    def _drop(self, wire: "_Wire") -> None:
        self._open.discard(wire)
        wire.hang_up()

    def _keep_sweeping(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for wire in [wire for wire in self._open if now > min(wire.deadline, wire.last)]:
            wire.time_out()
        if self._open:
            self._keep_sweeping()


class Reply:
    """What a backend answers: its head, then its body piece by piece."""

    __slots__ = ("_finished", "_wire", "headers", "status")

    def __init__(self, wire: "_Wire", finished: Callable[["_Wire"], None]) -> None:
        self._wire: _Wire | None = wire
        self._finished = finished
        self.status: int = wire.status
        self.headers: Headers = wire.headers

    async def read(self) -> bytes:
        """The next piece, as much as has come; b"" at the end. Raises Broke when the backend fails."""
        assert self._wire is not None, "read after close"
        return await self._wire.read()

    async def whole(self, most: int = 64 * 1024 * 1024) -> bytes:
        """The rest of the body at once. Raises Broke, also when it is longer than `most` bytes."""
        pieces, size = [], 0
        while piece := await self.read():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise Broke(f"the answer is longer than {most} bytes")
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def close(self) -> None:
        """Give the connection back, or hang up if the answer is not over. May be called again."""
        if self._wire is not None:
            wire, self._wire = self._wire, None
            self._finished(wire)


class _Wire(asyncio.Protocol):
    """One connection, one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._paused = False
        self._failure: str | None = "unused"
        self._parser: httptools.HttpResponseParser | None = None
        self.status = 0
        self.headers: Headers = []
        self.deadline = self.last = float("inf")
        self._reset()

    def _reset(self) -> None:
        self._head_done = self._done = self._framed = False
        self.untouched = True  # not a byte of a reply has come

    # --- for Upstream and Reply ---

    def start(self, request: bytes, stream: bool, timeouts: Timeouts) -> None:
        """Begin an exchange."""
        self._reset()
        self.headers, self.status, self._pieces, self._held = [], 0, [], 0
        self._parser = httptools.HttpResponseParser(self)
        now = self._loop.time()
        self.last = now + timeouts.total_s
        self.deadline = now + timeouts.first_byte_s if stream else self.last
        self._idle_s = timeouts.idle_s if stream else None
        if self._transport is not None and self._failure is None:
            self._transport.write(request)

    async def head(self) -> None:
        """Wait for the reply's head. Raises Refused."""
        while not self._head_done:
            if self._failure is not None:
                raise Refused(self._failure)
            await self._wait()

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises Broke."""
        while not self._pieces:
            if self._done:
                return b""
            if self._failure is not None:
                raise Broke(self._failure)
            await self._wait()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._held = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return piece

    @property
    def is_alive(self) -> bool:
        """Whether the other side has not hung up."""
        return self._failure is None

    @property
    def is_reusable(self) -> bool:
        """Whether the exchange is over and left the connection clean."""
        return self._done and self._framed and self._failure is None and not self._paused and self._keep_alive

    def hang_up(self) -> None:
        """Close at once, losing what is under way."""
        if self._transport is not None:
            self._transport.abort()

    def time_out(self) -> None:
        """Give up on this exchange."""
        self._fail("timeout")
        self.hang_up()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._failure = None

    def data_received(self, data: bytes) -> None:
        self.untouched = False
        if self._parser is None or self._done:
            self._fail("unasked")  # bytes after the end of a reply: this connection cannot be trusted
            self.hang_up()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not_http")
            self.hang_up()
            return
        if self._idle_s is not None and self._pieces:
            self.deadline = self._loop.time() + self._idle_s
        if self._held > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if self._head_done and not self._framed and not self._done and error is None:
            self._done = True  # a body that ends where the connection does
        self._fail(CLOSED)

    # --- httptools ---

    def on_message_begin(self) -> None:
        if self._done:
            raise ValueError("a reply after the reply")  # data_received takes it as not HTTP, and hangs up

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = []
            return
        self._keep_alive = bool(self._parser.should_keep_alive())
        names = {name for name, _ in self.headers}
        self._framed = b"content-length" in names or b"transfer-encoding" in names or self.status in (204, 304)
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._done = True

    # --- below: how ---

    def _fail(self, why: str) -> None:
        if self._failure is None:
            self._failure = why
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    _keep_alive = False
    _idle_s: float | None = None


def _fixed_headers(netloc: str, api_key: str | None) -> bytes:
    """The part of every request's head that does not change. The client's own headers never go upstream."""
    head = f"host: {netloc}\r\naccept: */*\r\nuser-agent: bestserve\r\n"
    if api_key is not None:
        head += f"authorization: Bearer {api_key}\r\n"
    return head.encode("latin-1")
