"""A peer: Starlette on uvicorn in front, httpx's client behind. Nothing is chosen, logged or counted."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
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
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=1024)
        async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as client:
            app.state.client = client
            yield

    async def chat(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        sent = client.build_request("POST", url, content=await request.body(), headers=_JSON)
        reply = await client.send(sent, stream=True)
        kind = reply.headers["content-type"]
        if kind.startswith("text/event-stream"):
            return StreamingResponse(_pieces(reply), reply.status_code, media_type=kind)
        return Response(await reply.aread(), reply.status_code, media_type=kind)

    async def health(_: Request) -> Response:
        return Response()

    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


async def _pieces(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in reply.aiter_raw():
            yield piece
    finally:
        await reply.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="http://host:port")
    args = parser.parse_args()
    uvicorn.run(app(args.upstream), port=args.port, access_log=False, log_level="warning", backlog=4096)


if __name__ == "__main__":
    main()
