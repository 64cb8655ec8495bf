"""The walk of one request, in sight: who calls, what is asked, who shall answer."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bestserve.policy.record import to_bytes

from .dialects import openai
from .errors import OURS, BadAsk, Failure, Forbidden, NotAllowed, NotFound, TooLarge, response_of
from .feedback import MOST_BYTES
from .keys import Allowed, Caller, tier_for
from .openapi import document
from .relay import Relay
from .serving import Serving

Headers = Mapping[bytes, bytes]
log = logging.getLogger("bestserve")


class Answer:
    """POST /v1/chat/completions and /v1/completions, where the policy decides who answers; /v1/embeddings and /v1/responses, which
    go to the least loaded backend that can."""

    def __init__(self, here: Serving, endpoint: str) -> None:
        self.here = here
        self.endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here, arrived, headers = self.here, self.here.clock(), dict(scope["headers"])
        request_id = id_of(headers, here)
        try:
            response = await self.walk(receive, headers, request_id, arrived)
        except Failure as failure:
            response = response_of(failure, {"x-request-id": request_id})
        except ClientDisconnect:
            return
        except Exception:
            log.exception("request %s failed before it was decided", request_id)
            response = response_of(Failure(OURS), {"x-request-id": request_id})
        await response(scope, receive, send)

    async def walk(self, receive: Receive, headers: Headers, request_id: str, arrived: float) -> ASGIApp:
        """Read the request; give what will answer it. Raises Failure."""
        here = self.here
        caller = here.keys.check(headers.get(b"authorization"))
        allowed = here.keys.take(caller, arrived)
        body = await read_body(receive, headers, here.config.listen.max_body_bytes)
        parsed = openai.parse(self.endpoint, body)
        ask, task_name = here.ask_of(
            parsed,
            tier=tier_for(caller, parsed.service_tier),
            slo_s=slo_of(headers),
            hint=text_header(headers, b"x-bestserve-task"),
            session=session_of(headers, caller),
            overflow=may_overflow(headers),
        )
        told = [(b"x-request-id", request_id.encode("ascii")), *quota_headers(allowed)]
        return Relay(here, ask, parsed, request_id, arrived, task_name, told, caller.name)


class About:
    """What is asked about the proxy itself."""

    def __init__(self, here: Serving) -> None:
        self.here = here

    async def models(self, request: Request) -> Response:
        """GET /v1/models: every name that a request may say."""
        self._admit(request)
        return _json({"object": "list", "data": [self._model(name) for name in self.here.model_names()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        self._admit(request)
        name = request.path_params["id"]
        self.here.allowed(name)
        return _json(self._model(name))

    async def feedback(self, request: Request) -> Response:
        """POST /v1/feedback: what a client thinks of an answer."""
        caller = self._admit(request)
        body = await read_body(request.receive, dict(request.scope["headers"]), MOST_BYTES)
        opinion = self.here.memory.feedback(caller.name, body)
        return _json({"object": "feedback", "decision": opinion.decision, "score": opinion.score})

    async def health(self, request: Request) -> Response:
        """GET /health and /health/liveness: the process answers."""
        return _json({"status": "ok"})

    async def readiness(self, request: Request) -> Response:
        """GET /health/readiness: 200 when at least one backend is up, else 503."""
        up = self.here.backends_up()
        return _json({"status": "ok" if any(up.values()) else "no backend is up", "backends": up}, 200 if any(up.values()) else 503)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: for Prometheus."""
        return PlainTextResponse(self.here.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json: the outside as a document."""
        return _json(document(version("bestserve")))

    async def admin_backends(self, request: Request) -> Response:
        """GET /admin/backends: how each backend looks from here."""
        self._admit_admin(request)
        return _json({"backends": self.here.describe()})

    async def admin_records(self, request: Request) -> Response:
        """GET /admin/records: the latest Records, a line each."""
        self._admit_admin(request)
        return Response(b"".join(map(to_bytes, self.here.recent)), media_type="application/x-ndjson")

    async def admin_state(self, request: Request) -> Response:
        """GET /admin/state: who decides, and how a trial goes."""
        self._admit_admin(request)
        return _json({"policy": self.here.deciders.state()})

    def _admit(self, request: Request) -> Caller:
        return self.here.keys.check(_authorization(request))

    def _admit_admin(self, request: Request) -> None:
        if self.here.keys.open:
            raise Forbidden("Administration needs a key with `admin: true`; this proxy has no keys.")
        if not self._admit(request).admin:
            raise Forbidden("This key may not administer.")

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": int(self.here.began), "owned_by": "bestserve"}


async def read_body(receive: Receive, headers: Headers, most: int) -> bytes:
    """The request's body. Raises TooLarge, BadAsk for one that is compressed, and ClientDisconnect when the client goes away."""
    if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
        raise BadAsk("A compressed request body is not taken.", code="unsupported_content_encoding")
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > most:
        raise TooLarge(f"The body is larger than {most} bytes.")
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":  # nearly always
        body: bytes = message["body"]
        return _within(body, most)
    return await _slow_body(message, receive, most)


async def _slow_body(message: Message, receive: Receive, most: int) -> bytes:
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > most:
                    raise TooLarge(f"The body is larger than {most} bytes.")
                if not message.get("more_body"):
                    return b"".join(pieces)
                message = await receive()
    except TimeoutError as error:
        raise BadAsk(f"The body was not sent within {BODY_S} seconds.", code="request_timeout") from error


def _within(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise TooLarge(f"The body is larger than {most} bytes.")
    return body


BODY_S = 60


def id_of(headers: Headers, here: Serving) -> str:
    """The request's id: the client's where it is harmless, else ours. It is told and logged, and never a key to anything."""
    given = headers.get(b"x-request-id")
    return given.decode("ascii") if given is not None and _ID.fullmatch(given) else here.new_id()


_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def slo_of(headers: Headers) -> dict[str, float]:
    """The deadlines that a request brings, in seconds, by the field of SLO. Raises BadAsk."""
    return {field: _ms(name, headers[name]) / 1000 for name, field in SLO_HEADERS.items() if name in headers}


SLO_HEADERS = {b"x-slo-ttft-ms": "ttft_s", b"x-slo-tpot-ms": "tpot_s", b"x-slo-e2e-ms": "e2e_s"}
MOST_MS = 86_400_000.0


def _ms(name: bytes, value: bytes) -> float:
    try:
        ms = float(value)
    except ValueError:
        ms = 0.0
    if not 0 < ms <= MOST_MS:
        raise BadAsk(f"{name.decode()}: must be milliseconds above 0 and at most {MOST_MS:.0f}.", param=name.decode(), code="invalid_value")
    return ms


def may_overflow(headers: Headers) -> bool:
    """Whether a request may be answered by a backend that is paid for. Raises BadAsk."""
    said = text_header(headers, b"x-bestserve-overflow")
    if said not in (None, "never", "allowed"):
        raise BadAsk("x-bestserve-overflow: must be never or allowed.", param="x-bestserve-overflow", code="invalid_value")
    return said != "never"


def session_of(headers: Headers, caller: Caller) -> str | None:
    """A name for a conversation that says nothing about it, and is a caller's own."""
    given = headers.get(b"x-session-id")
    return None if not given else hashlib.blake2b(caller.name.encode() + b"\0" + given, digest_size=8).hexdigest()


def text_header(headers: Headers, name: bytes) -> str | None:
    """A header as a text; None when it is absent or empty."""
    return headers[name].decode("latin-1").strip() or None if name in headers else None


def quota_headers(allowed: Allowed | None) -> list[tuple[bytes, bytes]]:
    """What is left of a key's requests per minute."""
    if allowed is None:
        return []
    return [
        (b"x-ratelimit-limit-requests", b"%d" % allowed.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % allowed.remaining),
        (b"x-ratelimit-reset-requests", b"%.3fs" % allowed.reset_s),
    ]


async def fail(request: Request, error: Exception) -> Response:
    """Any error as an answer in OpenAI's shape. What is not ours says nothing of itself to the client."""
    if isinstance(error, Failure):
        return response_of(error)
    if isinstance(error, HTTPException):
        ours = NotAllowed if error.status_code == 405 else NotFound
        return response_of(ours(f"{request.method} {request.url.path[:200]} does not exist here."), dict(error.headers or {}))
    return response_of(Failure(OURS))


def _authorization(request: Request) -> bytes | None:
    return dict(request.scope["headers"]).get(b"authorization")


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
