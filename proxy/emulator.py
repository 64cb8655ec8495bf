"""A stand-in for an SGLang server: `policy.engine` behind HTTP, in SGLang's dialect, with answers that nobody wrote.

The books belong to the response call: it enters, answers beside a task that waits for the client to leave, and leaves the engine in
one `finally`. So a client who goes away, during a prefill too, frees its place at once. What is read stands in `emulator_ask`, what
is said in `emulator_text`, how it is written in `emulator_reply` and `emulator_status`, and time in `emulator_turn`.

What is not handled: the native /generate, priorities, LoRA, images and audio (a part that is not text counts as its JSON), `echo`,
`best_of`, reasoning, tools in /v1/responses, parallel tool calls, and tools that the model may choose to call.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bestserve.policy import engine
from bestserve.profiles.schema import Engine, Profile

from . import emulator_ask, emulator_status
from .emulator_ask import QUEUE_FULL, QUEUE_FULL_EVENT, Fault, Wanted, fault
from .emulator_reply import Chat, Completions, Embeddings, Responses, Writer
from .emulator_text import Answer, ids
from .emulator_turn import Clock, Emulator, Seat, Sleep

__all__ = ["build", "run"]

_EMULATED = (b"x-bestserve-emulated", b"true")


def build(
    profile: Profile,
    *,
    clock: Clock = time.monotonic,
    sleep: Sleep = asyncio.sleep,
    time_scale: float = 1.0,
    served_model: str | None = None,
    seed: int = 0,
    exact: bool = False,
    wall: Clock = time.time,
    noise: float = 0.0,
    prefix_cache: bool = False,
) -> Starlette:
    """The server as an application. One second of the engine takes `time_scale` seconds of `clock`; `wall` dates the answers.

    `exact` adds what SGLang does and OpenAI's own client refuses when it is strict: `metadata.weight_versions`, and base64 embeddings.
    `noise` is the relative spread of a step's time. With `prefix_cache`, beginnings of prompts that were read cost the profile's share.
    """
    app = Starlette(routes=_ROUTES, exception_handlers=_ERRORS)
    app.state.exact = exact
    app.state.emulator = Emulator(
        profile,
        clock=clock,
        sleep=sleep,
        time_scale=time_scale,
        served_model=served_model,
        seed=seed,
        wall=wall,
        noise=noise,
        prefix_cache=prefix_cache,
    )
    return app


def run(
    profile: Profile,
    host: str = "127.0.0.1",
    port: int = 30000,
    *,
    time_scale: float = 1.0,
    served_model: str | None = None,
    seed: int = 0,
    exact: bool = False,
    noise: float = 0.0,
    prefix_cache: bool = False,
) -> None:
    """Serve until told to stop."""
    app = build(profile, time_scale=time_scale, served_model=served_model, seed=seed, exact=exact, noise=noise, prefix_cache=prefix_cache)
    uvicorn.run(app, host=host, port=port, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning")


class Answering(Response):
    """Answer one request. Ends when the call ends, however it ends."""

    def __init__(self, here: Emulator, wanted: Wanted, job: engine.Job, writer: Writer) -> None:
        self.here, self.wanted, self.job, self.writer = here, wanted, job, writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Enter, answer unless the client leaves, leave."""
        try:
            seat = self.here.enter(self.job, each=self.wanted.stream)
        except engine.QueueFull:
            await self._refuse(send)
            return
        except ValueError as error:
            raise fault(str(error)) from error
        try:
            await _unless_gone(receive, self._stream(seat, send) if self.wanted.stream else self._whole(seat, send))
        finally:
            self.here.leave(self.job.id, self.wanted)

    async def _refuse(self, send: Send) -> None:
        if self.wanted.stream:
            await _send(send, 200, QUEUE_FULL_EVENT, _EVENTS)
        else:
            await _send(send, 503, QUEUE_FULL, _JSON)

    async def _whole(self, seat: Seat, send: Send) -> None:
        while not seat.over:
            await seat.changed.wait()
            seat.changed.clear()
        await _send(send, 200, self.writer.whole(seat.made, aborted=seat.aborted), _JSON)

    async def _stream(self, seat: Seat, send: Send) -> None:
        """Write what is new each time that something is; the headers go with the first of it."""
        sent, started = (0,) * len(seat.whole), False
        while True:
            await seat.changed.wait()
            seat.changed.clear()
            made, over = seat.made, seat.over
            body = b"".join(self.writer.said(choice, sent[choice], n) for choice, n in enumerate(made) if n > sent[choice])
            body += self.writer.closing(made, aborted=seat.aborted) if over else b""
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", _EVENTS), _EMULATED]})
            sent, started = made, True
            await send({"type": "http.response.body", "body": body, "more_body": not over})
            if over:
                return


_JSON = b"application/json"
_EVENTS = b"text/event-stream; charset=utf-8"


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or stop at once when the client has gone away."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with suppress(asyncio.CancelledError, OSError):  # it was the client who left
        tasks[0].result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), _EMULATED]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _reply(body: bytes, *, status: int = 200, media_type: str | None = "application/json", **headers: str) -> Response:
    return Response(body, status, {"x-bestserve-emulated": "true", **headers}, media_type)


def _json(body: Any, status: int = 200) -> Response:
    return _reply(orjson.dumps(body), status=status)


def _here(request: Request) -> Emulator:
    here: Emulator = request.app.state.emulator
    return here


async def _http_error(_: Request, error: Exception) -> Response:
    """404 and 405 look as FastAPI makes them."""
    if not isinstance(error, HTTPException):
        raise error
    return _reply(orjson.dumps({"detail": error.detail}), status=error.status_code, **(error.headers or {}))


async def _fault(_: Request, error: Exception) -> Response:
    if not isinstance(error, Fault):
        raise error
    return _reply(error.body, status=error.status)


async def _client_left(_: Request, __: Exception) -> Response:
    """Nobody is there to read it."""
    return _reply(b"", status=400)


def _room(limits: Engine, wanted: Wanted) -> int:
    """Tokens that an answer may come to where the client says nothing."""
    return max(min(limits.context, limits.kv_tokens) - wanted.prompt_tokens, 1)


async def _answer(
    request: Request,
    read: Callable[[bytes], Wanted],
    write: Callable[[Wanted, tuple[Answer, ...], str, int], Writer],
) -> Response:
    here, wanted = _here(request), replace(read(await request.body()), exact=request.app.state.exact)
    answers = emulator_ask.answers(wanted, here.profile.engine, here.seed)
    rid = wanted.rid or uuid4().hex
    said = tuple(len(answer.pieces) for answer in answers)
    ceiling = _room(here.profile.engine, wanted) if wanted.max_tokens is None else wanted.max_tokens
    await here.arrive()
    job = engine.Job(rid, wanted.prompt_tokens, said, ceiling, here.cached(wanted))
    return Answering(here, wanted, job, write(wanted, answers, rid, int(here.wall())))


async def _chat(request: Request) -> Response:
    return await _answer(request, emulator_ask.chat, Chat)


async def _completions(request: Request) -> Response:
    return await _answer(request, emulator_ask.completions, Completions)


async def _responses(request: Request) -> Response:
    return await _answer(request, emulator_ask.responses, Responses)


async def _embeddings(request: Request) -> Response:
    here, wanted = _here(request), replace(emulator_ask.embeddings(await request.body()), exact=request.app.state.exact)
    limits = here.profile.engine
    tokens = min(wanted.prompt_tokens, limits.context, limits.kv_tokens)
    await here.arrive()
    job = engine.Job(wanted.rid or uuid4().hex, tokens, (0,))
    return Answering(here, wanted, job, Embeddings(wanted, here.seed))


async def _models(request: Request) -> Response:
    here = _here(request)
    return _json({"object": "list", "data": [emulator_status.model_card(here.model, here.started, here.profile.engine.context)]})


async def _model(request: Request) -> Response:
    here, name = _here(request), request.path_params["model"]
    if name == here.model:
        return _json(emulator_status.model_card(here.model, here.started, here.profile.engine.context))
    message = f"The model '{name}' does not exist"
    return _json({"error": {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}, 404)


async def _loads(request: Request) -> Response:
    here = _here(request)
    figures = {**here.figures, "waiting_tokens": engine.waiting_tokens(here.state)}
    core = request.query_params.get("include", "all") == "core"
    return _json(emulator_status.loads(engine.load(here.state), figures, here.wall(), core=core))


async def _metrics(request: Request) -> Response:
    here = _here(request)
    text = emulator_status.metrics(here.model, engine.load(here.state), here.figures["throughput"], here.totals)
    return _reply(text.encode(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _nothing(_: Request) -> Response:
    return _reply(b"", media_type=None)


async def _model_info(request: Request) -> Response:
    here = _here(request)
    return _json(emulator_status.model_info(here.profile, here.model))


async def _server_info(request: Request) -> Response:
    here = _here(request)
    return _json(emulator_status.server_info(here.profile, here.model, engine.load(here.state), prefix_cache=here.prefixes is not None))


async def _abort(request: Request) -> Response:
    body = _object(await request.body())
    _here(request).abort(None if body.get("abort_all") is True else str(body.get("rid", "")))
    return _reply(b"", media_type=None)


async def _tokenize(request: Request) -> Response:
    here, prompt = _here(request), _object(await request.body()).get("prompt", "")
    tokens = [ids(str(one)) for one in prompt] if isinstance(prompt, list) else ids(str(prompt))
    n = [len(one) for one in tokens if isinstance(one, list)] if isinstance(prompt, list) else len(tokens)
    return _json({"tokens": tokens, "count": n, "max_model_len": here.profile.engine.context})


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise fault(f"JSON decode error: {error}") from error
    return body if isinstance(body, dict) else {}


_ROUTES = [
    Route("/v1/chat/completions", _chat, methods=["POST"]),
    Route("/v1/completions", _completions, methods=["POST"]),
    Route("/v1/responses", _responses, methods=["POST"]),
    Route("/v1/embeddings", _embeddings, methods=["POST"]),
    Route("/v1/models", _models),
    Route("/v1/models/{model:path}", _model),
    Route("/v1/loads", _loads),
    Route("/metrics", _metrics),
    *(Route(path, _nothing) for path in ("/health", "/health_generate", "/ready")),
    *(Route(path, _model_info) for path in ("/model_info", "/get_model_info")),
    *(Route(path, _server_info) for path in ("/server_info", "/get_server_info")),
    Route("/abort_request", _abort, methods=["POST"]),
    *(Route(path, _tokenize, methods=["POST"]) for path in ("/v1/tokenize", "/tokenize")),
]
_ERRORS = {HTTPException: _http_error, Fault: _fault, ClientDisconnect: _client_left}
