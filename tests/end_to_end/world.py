"""A proxy on a real socket, between scripted backends and raw clients, all in one event loop.

A backend is told what to do with its next requests by a script: an async function that gets the request and a writer. It notes what
became of each request, so that a test can ask whether the proxy hung up.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import orjson
import uvicorn

from bestserve.proxy.app import Proxy, build
from bestserve.proxy.config import Config, parse
from bestserve.proxy.serve import server_of
from bestserve.proxy.serving import Serving

LOADS = {"loads": [{"num_running_reqs": 0, "num_waiting_reqs": 0, "num_used_tokens": 0}]}


@dataclass(slots=True)
class Got:
    """One request as a backend got it, and what became of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> dict:
        return orjson.loads(self.body)


Script = Callable[[Got, asyncio.StreamWriter], Awaitable[None]]


class Backend:
    """A scripted SGLang."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: Script = say("Hello from " + name)
        self.got: list[Got] = []
        self.arrived = asyncio.Event()
        self.is_ready = True
        self.loads: dict = LOADS
        self.metrics = b""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a killed process: no more listening, every connection cut."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode().rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        got = Got(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))
        if path in ("/ready", "/health"):
            writer.write(answer(b"", status=200 if self.is_ready else 503))
        elif path in ("/metrics", "/load"):
            writer.write(answer(self.metrics if path == "/metrics" else b"{}", kind="text/plain"))
        elif path == "/v1/models":
            writer.write(answer(orjson.dumps({"data": [{"id": f"m-{self.name}"}]}), status=200 if self.is_ready else 503))
        elif path.startswith("/v1/loads"):
            writer.write(answer(orjson.dumps(self.loads)))
        else:
            return await self._scripted(got, reader, writer)
        await writer.drain()
        return True

    async def _scripted(self, got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.got.append(got)
        self.arrived.set()
        running = asyncio.ensure_future(self.script(got, writer))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([running, gone], return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not running.done():
            running.cancel()
        try:
            await running
            await writer.drain()
            got.answered.set()
        except (asyncio.CancelledError, ConnectionError):
            got.hung_up.set()
        if gone.done():
            gone.exception()
            return False
        gone.cancel()  # the next request's bytes are still to come
        with contextlib.suppress(asyncio.CancelledError):
            await gone
        return not writer.is_closing()


# --- what a backend may do ---


def answer(body: bytes, *, status: int = 200, kind: str = "application/json") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (status, kind.encode(), len(body)) + body


def completion(text: str, *, model: str = "m", finish: str = "stop", tokens: int = 3) -> dict:
    message = {"role": "assistant", "content": text, "reasoning_content": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "matched_stop": None}
    usage = {"prompt_tokens": 11, "total_tokens": 11 + tokens, "completion_tokens": tokens, "prompt_tokens_details": None}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def chunk(text: str | None = None, *, finish: str | None = None, role: str | None = None) -> dict:
    delta = {name: value for name, value in (("role", role), ("content", text)) if value is not None}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "matched_stop": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def usage_chunk(tokens: int) -> dict:
    usage = {"prompt_tokens": 11, "total_tokens": 11 + tokens, "completion_tokens": tokens}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage}


def event(data: dict | str) -> bytes:
    return b"data: " + (data.encode() if isinstance(data, str) else orjson.dumps(data)) + b"\n\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def say(text: str, **how: object) -> Script:
    """Answer at once, as a stream when asked for one."""

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        if got.json().get("stream"):
            await stream(*text.split(" "))(got, writer)
        else:
            writer.write(answer(orjson.dumps(completion(text, model=got.json()["model"], **how))))

    return script


def stream(*words: str, then: Script | None = None, cuts: int = 0) -> Script:
    """Stream words; `then` takes over in the middle, before the end. `cuts` sends pieces of so many bytes."""

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        events = event(chunk("", role="assistant")) + b"".join(event(chunk(word)) for word in words)
        if then is not None:
            writer.write(piece(events))
            await writer.drain()
            await then(got, writer)
            return
        events += event(chunk(finish="stop"))
        if got.json().get("stream_options", {}).get("include_usage"):
            events += event(usage_chunk(len(words)))
        events += event("[DONE]")
        for start in range(0, len(events), cuts or len(events)):
            writer.write(piece(events[start : start + (cuts or len(events))]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return script


async def nothing(got: Got, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def hang_up(got: Got, writer: asyncio.StreamWriter) -> None:
    """Cut the connection."""
    writer.transport.abort()


def refuse(status: int = 503, body: dict | None = None) -> Script:
    """Say no with a status."""
    said = body or {"object": "error", "message": "The request queue is full.", "type": "503", "param": None, "code": 503}

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(orjson.dumps(said), status=status))

    return script


async def refuse_in_stream(got: Got, writer: asyncio.StreamWriter) -> None:
    """SGLang's full queue, to a stream: 200, then the error as the first event."""
    error = {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", "param": None, "code": 503}
    writer.write(STREAM_HEAD + piece(event({"error": error}) + event("[DONE]")) + b"0\r\n\r\n")


async def flood(got: Got, writer: asyncio.StreamWriter) -> None:
    """Stream without end, as fast as it is taken."""
    writer.write(STREAM_HEAD)
    words = piece(event(chunk("x" * 1000)) * 50)
    while True:
        writer.write(words)
        await writer.drain()


# --- the world ---


@dataclass(slots=True)
class World:
    """What a test holds."""

    backends: dict[str, Backend]
    serving: Serving
    server: uvicorn.Server
    port: int
    config: Config
    clients: list["Client"] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def endings(self) -> list[tuple[str | None, str]]:
        """(backend, ending) of every Record so far."""
        return [(r.decision.action.backend, r.outcome.ending.value) for r in self.serving.recent]

    async def settled(self) -> None:
        """Wait until nothing is in flight, here or upstream."""
        async with asyncio.timeout(5):
            while any(self.serving.fleet.in_flight().values()) or any(u.n_open for u in self.serving.upstreams.values()):
                await asyncio.sleep(0.005)

    async def ask(self, body: dict | bytes, path: str = "/v1/chat/completions", method: str = "POST", **headers: str) -> "Client":
        """Send a request on a connection of its own."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {len(payload)}\r\n{extra}\r\n"
        client.writer.write(head.encode("latin-1") + payload)
        await client.writer.drain()
        return client


@dataclass(slots=True)
class Client:
    """A raw client that can do what no well-behaved one would."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False

    async def head(self) -> "Client":
        """Read the answer's head."""
        async with asyncio.timeout(5):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return self

    async def some(self) -> bytes:
        """One piece of a chunked body; b"" at the end."""
        async with asyncio.timeout(5):
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readline()
        return data

    async def body(self) -> bytes:
        """The rest."""
        async with asyncio.timeout(5):
            if "content-length" in self.headers:
                return await self.reader.readexactly(int(self.headers["content-length"]))
        pieces = []
        while data := await self.some():
            pieces.append(data)
        return b"".join(pieces)

    async def answer(self) -> dict:
        """The whole answer as JSON."""
        if not self.status:
            await self.head()
        return orjson.loads(await self.body())

    def leave(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()


def chat(text: str = "hi", **fields: object) -> dict:
    """The body of a chat request."""
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}


PROFILE = """
model = "m"
params_b = 1
gpu = "none"
n_gpus = 1
capabilities = ["tools", "json"]
[engine]
prefill_tokens_per_s = 50000
prefill_fixed_s = 0.001
step_fixed_s = 0.001
step_per_seq_s = 0.00001
step_per_kv_token_s = 0.0000001
max_running = 64
kv_tokens = 400000
context = 8192
prefill_batch_tokens = 8192
[quality]
""" + "\n".join(f"{t} = 0.5" for t in ("code", "math", "qa", "extract", "summ", "rewrite", "translate", "write", "classify", "chat"))


@contextlib.asynccontextmanager
async def world(
    folder: object,
    *names: str,
    more: str = "",
    per_backend: str = "",
    policy: str = "static:a",
    rows: Mapping[str, Callable[[Backend], str]] = {},
    build: Callable[[Config], Proxy] = build,
) -> AsyncIterator[World]:
    """Backends with these names and a proxy before them. The policy sends everything to `a` while it can. `rows` are other lines of the
    config for some."""
    backends = {name: Backend(name) for name in names or ("a", "b")}
    for backend in backends.values():
        await backend.start()
    config = config_of(folder, backends, more=more, per_backend=per_backend, policy=policy, rows=rows)
    async with running(config, backends, build) as made:
        yield made


@contextlib.asynccontextmanager
async def running(config: Config, backends: dict[str, Backend], build: Callable[[Config], Proxy] = build) -> AsyncIterator[World]:
    """A proxy by this config; the backends, which have been started, are stopped with it."""
    app = build(config)
    listening = socket.create_server(("127.0.0.1", 0))
    server = server_of(app, config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    here: Serving = app.state.serving
    async with asyncio.timeout(5):
        while not server.started or not all(here.backends_up().values()):
            await asyncio.sleep(0.005)
    made = World(backends, here, server, listening.getsockname()[1], config)
    try:
        yield made
    finally:
        for client in made.clients:
            client.leave()
        server.should_exit = True
        for backend in backends.values():
            await backend.stop()
        await serving
        listening.close()


def config_of(
    folder: object,
    backends: dict[str, Backend],
    *,
    more: str = "",
    per_backend: str = "",
    policy: str = "static:a",
    rows: Mapping[str, Callable[[Backend], str]] = {},
) -> Config:
    """The config that the world would read from a file."""
    profile = f"{folder}/fast.toml"
    with open(profile, "w") as file:  # noqa: PTH123
        file.write(PROFILE)
    lines = "\n".join(
        f"  - {{name: {b.name}, {rows[b.name](b)}}}"
        if b.name in rows
        else f"  - {{name: {b.name}, url: 'http://127.0.0.1:{b.port}', model: m-{b.name}, profile: fast.toml{per_backend}}}"
        for b in backends.values()
    )
    learned = "" if "checkpoint:" in policy else "checkpoint: published, "
    text = f"""backends:
{lines}
policy: {{{learned}fallback: {policy}}}
probe: {{interval_ms: 20}}
listen: {{drain_s: 1}}
log: {{level: error}}
{more}"""
    return parse(text, {}, source=f"{folder}/bestserve.yaml")
