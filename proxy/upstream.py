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
from urllib.parse import urlsplit

from .dialects.dialect import Dialect
from .dialects.sglang import SGLANG
from .errors import Broke, Refused
from .wire import CLOSED, Headers, Sink, Timeouts, Wire

SWEEP_S = 0.25
MOST_IDLE = 512


class Upstream:
    """The connections to one backend."""

    def __init__(
        self,
        url: str,
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  a frozen value
        api_key: str | None = None,
        speaks: Dialect = SGLANG,
    ) -> None:
        parts = urlsplit(url)
        self.speaks = speaks
        self.url = url
        self.timeouts = timeouts
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/")
        self._fixed = _fixed_headers(parts.netloc, api_key)
        self._idle: list[Wire] = []
        self._open: set[Wire] = set()
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

    async def _wire(self) -> tuple[Wire, bool]:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_alive:
                return wire, True
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                _, wire = await loop.create_connection(
                    lambda: Wire(loop), self._host, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
                )
        except TimeoutError as error:
            raise Refused("connect_timeout") from error
        except OSError as error:
            raise Refused("connect_failed", message=type(error).__name__) from error
        return wire, False

    def _finished(self, wire: Wire) -> None:
        """Take a wire back from its Reply: for another request if it is clean, else hang up."""
        self._open.discard(wire)
        if wire.is_reusable and not self._closed and len(self._idle) < MOST_IDLE:
            self._idle.append(wire)
        else:
            wire.hang_up()

    def _drop(self, wire: Wire) -> None:
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

    def __init__(self, wire: Wire, finished: Callable[[Wire], None]) -> None:
        self._wire: Wire | None = wire
        self._finished = finished
        self.status: int = wire.status
        self.headers: Headers = wire.headers

    async def read(self) -> bytes:
        """The next piece, as much as has come; b"" at the end. Raises Broke when the backend fails."""
        assert self._wire is not None, "read after close"
        return await self._wire.read()

    async def pump(self, sink: Sink) -> None:
        """Hand every piece to `sink` in the very callback that received it, until the end. Raises Broke, and what `sink` raises.

        `sink` returns None, or something to wait for before the next piece; the socket is not read meanwhile.
        """
        assert self._wire is not None, "pump after close"
        await self._wire.pump(sink)

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


def _fixed_headers(netloc: str, api_key: str | None) -> bytes:
    """The part of every request's head that does not change. The client's own headers never go upstream."""
    head = f"host: {netloc}\r\naccept: */*\r\nuser-agent: bestserve\r\n"
    if api_key is not None:
        head += f"authorization: Bearer {api_key}\r\n"
    return head.encode("latin-1")
