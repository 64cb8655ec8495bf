"""One connection to a backend: an asyncio protocol over httptools' parser. One exchange at a time.

A reply's body is taken in one of two ways. `read` waits for the next piece in a task. `pump` hands pieces to a function in the callback
that received them: at thirty thousand tokens a second, waking a task for each costs more than all that is done with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httptools

from .errors import Broke, Refused

HIGH_WATER = 256 * 1024
CLOSED = "closed"

Headers = list[tuple[bytes, bytes]]
Sink = Callable[[bytes], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Each binds from where its name says."""

    connect_s: float = 2.0
    first_byte_s: float = 120.0  # from sending the request to the first byte of the reply's body, of a stream
    idle_s: float = 120.0  # between two pieces of a stream
    total_s: float = 600.0  # the whole exchange


class Wire(asyncio.Protocol):
    """See the head of this file."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._paused = False
        self._failure: str | None = "unused"
        self._sink: Sink | None = None
        self._blocked: Awaitable[None] | None = None
        self._raised: Exception | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self.status = 0
        self.headers: Headers = []
        self.deadline = self.last = float("inf")
        self._reset()

    def _reset(self) -> None:
        self._head_done = self._done = self._framed = False
        self._sink = self._blocked = self._raised = None
        self.untouched = True  # not a byte of a reply has come

    # --- for Upstream and Reply ---

    def start(self, request: bytes, stream: bool, timeouts: Timeouts) -> None:
        """Begin an exchange."""
        self._reset()
        self.headers, self.status, self._pieces, self._held = [], 0, [], 0
        if self._parser is None:  # behind a clean end, and only there is a wire used again, a parser stands where it began
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
        self._resume()
        return piece

    async def pump(self, sink: Sink) -> None:
        """Every piece to `sink` as it comes, until the end. Raises Broke, and what `sink` raises."""
        self._sink = sink
        try:
            while True:
                self._push()
                if self._raised is not None:
                    raise self._raised
                if self._blocked is not None:
                    blocked, self._blocked = self._blocked, None
                    await blocked
                    self._resume()
                elif self._done:
                    return
                elif self._failure is not None:
                    raise Broke(self._failure)
                else:
                    await self._wait()
        finally:
            self._sink = None

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
        if self._sink is not None:
            self._push()
            if self._blocked is None and self._raised is None and not self._done:
                return  # nothing that the waiting task would have to do
        elif self._held > HIGH_WATER:
            self._pause()
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

    def _push(self) -> None:
        """Hand on what has come, unless the sink is still busy with what came before."""
        if not self._pieces or self._blocked is not None or self._sink is None:
            return
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._held = [], 0
        try:
            self._blocked = self._sink(data)
        except Exception as error:
            self._raised = error
        if self._blocked is not None:
            self._pause()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and self._failure is None:
            self._paused = False
            self._transport.resume_reading()

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
