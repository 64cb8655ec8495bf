"""A peer: Starlette on uvicorn in front, a bare asyncio protocol with httptools' parser behind.

It has no timeouts, no backpressure and no retries: it shows what the client behind costs, not how to write one.
"""

import argparse
import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import httptools
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


class Exchange(asyncio.Protocol):
    """One upstream connection: a request is written, the pieces of the answer are taken as they come."""

    def __init__(self, pool: list["Exchange"]) -> None:
        self._pool = pool
        self.complete = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[None]:
        self.pieces: deque[bytes] = deque()
        self.complete = False
        self.kind = b""
        self._waiter = self._loop.create_future()
        self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._pool:
            self._pool.remove(self)
        if not self.complete:
            self.complete = True
            self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-type":
            self.kind = value

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.complete = True

    async def more(self) -> None:
        """Until a piece has come or the answer is complete."""
        while not self.pieces and not self.complete:
            self._waiter = self._loop.create_future()
            await self._waiter

    def release(self) -> None:
        """Back to the pool, or closed if the client left before the end."""
        if not self.complete:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._pool.append(self)

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    def _wake(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(None)


def app(upstream: str) -> Starlette:
    host, _, port = upstream.removeprefix("http://").rpartition(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n".encode()
    pool: list[Exchange] = []

    async def chat(request: Request) -> Response:
        body = await request.body()
        if pool:
            exchange = pool.pop()
        else:
            _, exchange = await asyncio.get_running_loop().create_connection(lambda: Exchange(pool), host, int(port))
        await exchange.ask(head, body)
        await exchange.more()
        kind = exchange.kind.decode()
        if kind.startswith("text/event-stream"):
            return StreamingResponse(_pieces(exchange), exchange.status, media_type=kind)
        whole = b""
        while not exchange.complete or exchange.pieces:
            await exchange.more()
            whole += b"".join(exchange.pieces)
            exchange.pieces.clear()
        response = Response(whole, exchange.status, media_type=kind)
        exchange.release()
        return response

    async def health(_: Request) -> Response:
        return Response()

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", health)])


async def _pieces(exchange: Exchange) -> AsyncIterator[bytes]:
    try:
        while not exchange.complete or exchange.pieces:
            await exchange.more()
            if exchange.pieces:
                piece = b"".join(exchange.pieces)
                exchange.pieces.clear()
                yield piece
    finally:
        exchange.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="http://host:port")
    args = parser.parse_args()
    uvicorn.run(app(args.upstream), port=args.port, access_log=False, log_level="warning", backlog=4096)


if __name__ == "__main__":
    main()
