"""The one place where things are wired. Importing it does nothing."""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from .board import Board
from .config import BackendConfig, Config
from .endpoints import About, Answer, fail
from .engines import ENGINES
from .errors import Failure
from .follow import keep_following
from .metrics import Metrics
from .probe import keep_asking
from .provider import Provider, Source, leave
from .serving import Serving
from .upstream import Upstream
from .wire import Timeouts

ANSWERED = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
}


class Proxy(Starlette):
    """A Starlette application with a shorter way for the requests that come by the thousand.

    Starlette wraps each request in layers that catch exceptions, and each message of its answer passes through all of them. A POST to
    an endpoint that answers asks catches its own exceptions, so it goes there directly; everything else takes the usual way.
    """

    def __init__(self, answers: dict[str, Answer], **how: Any) -> None:
        super().__init__(**how)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            answer = self._answers.get(scope["path"])
            if answer is not None:
                await answer(scope, receive, send)
                return
        await super().__call__(scope, receive, self._stamped(send) if scope["type"] == "http" else send)

    def _stamped(self, send: Send) -> Send:
        """With an x-request-id on the answer, where there is none."""

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start" and all(name != b"x-request-id" for name, _ in message["headers"]):
                message["headers"] = [*message["headers"], (b"x-request-id", self.state.serving.new_id().encode())]
            await send(message)

        return stamped


def connect(backend: BackendConfig, timeouts: Timeouts) -> Source:
    """The connections to one backend, or what asks it through LiteLLM."""
    if backend.engine == "litellm":
        return Provider(backend.model, timeouts=timeouts, api_key=backend.api_key, options=backend.litellm)
    return Upstream(backend.url or "", timeouts=timeouts, api_key=backend.api_key, speaks=ENGINES[backend.engine])


def ids() -> Callable[[], str]:
    """Names for requests and decisions: 24 hex digits, each process from a seed of its own. They are names and not secrets."""
    bits = random.Random(secrets.randbits(256)).getrandbits  # noqa: S311
    return lambda: f"{bits(96):024x}"


def build(
    config: Config,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    draw: Callable[[], float] | None = None,
    new_id: Callable[[], str] | None = None,
    connect: Callable[[BackendConfig, Timeouts], Source] = connect,
    board: Board | None = None,
    row: int = 0,
) -> "Proxy":
    """The proxy as an ASGI application. What it holds is at `app.state.serving`."""
    dice = draw or random.Random(config.policy.seed).random  # noqa: S311  choices, not secrets
    here = Serving(config, clock, wall, dice, new_id or ids(), Metrics(), connect, board, row)
    about = About(here)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        here.memory.adopt(config.replay)
        beside = [asyncio.create_task(task) for task in (keep_asking(here), keep_following(here), here.judge.keep_judging())]
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)  # one that had failed keeps nobody from writing the log to its end
            here.close()
            if here.judge.has_asked or any(isinstance(upstream, Provider) for upstream in here.upstreams.values()):
                await leave()
            await asyncio.to_thread(here.memory.close)

    answers = {path: Answer(here, endpoint) for path, endpoint in ANSWERED.items()}
    routes = [
        *(Route(path, answer, methods=["POST"]) for path, answer in answers.items()),
        Route("/v1/models", about.models),
        Route("/v1/models/{id:path}", about.model),
        Route("/v1/feedback", about.feedback, methods=["POST"]),
        Route("/health", about.health),
        Route("/health/liveness", about.health),
        Route("/health/readiness", about.readiness),
        Route("/metrics", about.metrics),
        Route("/openapi.json", about.openapi),
        Route("/admin/backends", about.admin_backends),
        Route("/admin/records", about.admin_records),
        Route("/admin/state", about.admin_state),
    ]
    app = Proxy(answers, routes=routes, lifespan=lifespan, exception_handlers={404: fail, 405: fail, Failure: fail, Exception: fail})
    app.router.redirect_slashes = False
    app.state.serving = here
    return app
