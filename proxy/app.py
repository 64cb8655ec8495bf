"""The one place where things are wired. Importing it does nothing."""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable

from starlette.applications import Starlette
from starlette.routing import Route

from .board import Board
from .config import BackendConfig, Config
from .endpoints import About, Answer, fail
from .errors import Failure
from .metrics import Metrics
from .probe import keep_asking
from .serving import Serving
from .upstream import Timeouts, Upstream

ANSWERED = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
}


def connect(backend: BackendConfig, timeouts: Timeouts) -> Upstream:
    """The connections to one backend."""
    return Upstream(backend.url, timeouts=timeouts, api_key=backend.api_key)


def build(
    config: Config,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    draw: Callable[[], float] | None = None,
    new_id: Callable[[], str] = lambda: secrets.token_hex(12),
    connect: Callable[[BackendConfig, Timeouts], Upstream] = connect,
    board: Board | None = None,
    row: int = 0,
) -> Starlette:
    """The proxy as an ASGI application. What it holds is at `app.state.serving`."""
    dice = draw or random.Random(config.policy.seed).random  # noqa: S311  choices, not secrets
    here = Serving(config, clock, wall, dice, new_id, Metrics(), connect, board, row)
    about = About(here)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        probing = asyncio.create_task(keep_asking(here))
        try:
            yield
        finally:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing
            here.close()

    routes = [
        *(Route(path, Answer(here, endpoint), methods=["POST"]) for path, endpoint in ANSWERED.items()),
        Route("/v1/models", about.models),
        Route("/v1/models/{id:path}", about.model),
        Route("/health", about.health),
        Route("/health/liveness", about.health),
        Route("/health/readiness", about.readiness),
        Route("/metrics", about.metrics),
        Route("/admin/backends", about.admin_backends),
        Route("/admin/records", about.admin_records),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: fail, 405: fail, Failure: fail, Exception: fail})
    app.router.redirect_slashes = False
    app.state.serving = here
    return app
