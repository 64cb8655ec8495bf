"""A peer: Starlette on uvicorn in front, aiohttp's client behind. Nothing is chosen, logged or counted."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_JSON = {"content-type": "application/json"}


def app(upstream: str) -> Starlette:
    url = f"{upstream}/v1/chat/completions"

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            app.state.session = session
            yield

    async def chat(request: Request) -> Response:
        session: aiohttp.ClientSession = request.app.state.session
        reply = await session.post(url, data=await request.body(), headers=_JSON)
        kind = reply.headers["content-type"]
        if kind.startswith("text/event-stream"):
            return StreamingResponse(_pieces(reply), reply.status, media_type=kind)
        async with reply:
            return Response(await reply.read(), reply.status, media_type=kind)

    async def health(_: Request) -> Response:
        return Response()

    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


async def _pieces(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with reply:
        async for piece in reply.content.iter_any():
            yield piece


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="http://host:port")
    args = parser.parse_args()
    uvicorn.run(app(args.upstream), port=args.port, access_log=False, log_level="warning", backlog=4096)


if __name__ == "__main__":
    main()
