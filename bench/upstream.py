"""A mock SGLang that costs as little as Python allows: one process, one thread, answers encoded beforehand.

POST /v1/chat/completions gives a canned answer, or a stream of `max_tokens` chunks. With a token interval of 0 a stream
is one write; otherwise one timer paces all streams: they are dealt to `--phases` groups (engines whose decode steps
alternate), and at each step every stream of a group gets its chunk by a write of its own.

    python bench/upstream.py --port 9001 --token-interval-ms 20 --core 1

POST /bench/interval (a number of milliseconds) changes the pace of later streams; GET /bench/stats counts. A second
request on a connection before the first is answered is not supported.
"""

import argparse
import asyncio
import json
import re
import time
from functools import lru_cache
from typing import cast

import httptools
import uvloop
import wire

_STREAM = re.compile(rb'"stream"\s*:\s*true')
_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
_COUNT = re.compile(rb'"max_(?:completion_)?tokens"\s*:\s*(\d+)')
_ANSWER = wire.completion()
_LOAD = {
    "dp_rank": 0,
    "num_running_reqs": 0,
    "num_waiting_reqs": 0,
    "num_waiting_uncached_tokens": 0,
    "num_used_tokens": 0,
    "num_total_tokens": 0,
    "num_active_tokens": 0,
    "num_prealloc_ready_tokens": 0,
    "max_total_num_tokens": 4_000_000,
    "max_running_requests": 4096,
    "token_usage": 0.0,
    "gen_throughput": 0.0,
    "cache_hit_rate": 0.0,
    "utilization": 0.0,
    "total_prefill_uncached_tokens": 10776,
    "total_prefill_busy_us": 9879220,
    "decode_moments": [709.0, 3809.0, 79630515.0, 42001.0, 552223463.0, 3809.0],
}
_LABELS = '{engine_type="unified",model_name="mock",moe_ep_rank="0",pp_rank="0",tp_rank="0"}'
_GAUGES = ("num_running_reqs", "num_queue_reqs", "num_used_tokens", "token_usage", "gen_throughput", "cache_hit_rate")


class Server:
    """What all connections share: the pace, the groups of running streams, the counts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float, phases: int) -> None:
        self.interval_s = interval_s
        self.groups: list[dict[Upstream, None]] = [{} for _ in range(phases)]
        self.requests = self.streams = self.tokens = self._turn = 0
        self.late_max_s = 0.0
        self._due = self._step_s = 0.0
        self._timer = wire.Timer(loop, self._step)

    def running(self) -> int:
        return sum(map(len, self.groups))

    def join(self, stream: "Upstream") -> dict["Upstream", None]:
        """Give a stream a place in the smallest group; the first stream starts the clock."""
        group = min(self.groups, key=len)
        if not self.running():
            self._step_s = self.interval_s / len(self.groups)
            self._due = time.monotonic() + self._step_s
            self._timer.at(self._due)
        group[stream] = None
        return group

    def _step(self) -> None:
        """One decode step of one group."""
        if not self.running():
            return
        self.late_max_s = max(self.late_max_s, time.monotonic() - self._due)
        group = self.groups[self._turn]
        self._turn = (self._turn + 1) % len(self.groups)
        chunk = wire.token(self._due)
        self.tokens += len(group)
        for stream in tuple(group):
            stream.write(chunk)
            stream.left -= 1
            if not stream.left:
                stream.finish()
        self._due += self._step_s
        self._timer.at(self._due)

    def stats(self) -> bytes:
        late = {"late_max_ms": round(1e3 * self.late_max_s, 3)}
        self.late_max_s = 0.0
        counts = {"requests": self.requests, "streams": self.streams, "tokens": self.tokens, "running": self.running()}
        return wire.response(json.dumps(counts | late).encode())


class Upstream(asyncio.Protocol):
    """One connection."""

    __slots__ = ("body", "group", "left", "parser", "path", "server", "transport", "usage", "wanted", "write")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.body: list[bytes] = []
        self.path = b""
        self.group: dict[Upstream, None] | None = None
        self.left = self.wanted = 0
        self.usage = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.write = self.transport.write
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.group is not None:
            self.group.pop(self, None)

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.body = []
        if self.path == b"/v1/chat/completions":
            self._chat(body)
        else:
            self.write(_other(self.server, self.path.partition(b"?")[0], body))
        if not self.parser.should_keep_alive() and self.group is None:
            self.transport.close()

    def _chat(self, body: bytes) -> None:
        self.server.requests += 1
        if _find(_STREAM, body, b'"stream"') is None:
            self.write(_ANSWER)
            return
        self.server.streams += 1
        count = _find(_COUNT, body, b'"max_')
        self.wanted = self.left = int(count.group(1)) if count else 16
        self.usage = _find(_USAGE, body, b'"include_usage"') is not None
        if not self.server.interval_s:
            self.write(_at_once(self.left, self.usage))
            return
        self.write(wire.STREAM_HEAD + wire.ROLE)
        self.group = self.server.join(self)

    def finish(self) -> None:
        """After the last token: the tail, and out of the group."""
        if self.group is not None:
            self.group.pop(self, None)
            self.group = None
        self.write(wire.tail(self.wanted, usage=self.usage))
        if not self.parser.should_keep_alive():
            self.transport.close()


def _find(pattern: re.Pattern[bytes], body: bytes, key: bytes) -> re.Match[bytes] | None:
    """The last place of a key, from the end: options follow the prompt, and a prompt may be long."""
    at = body.rfind(key)
    return pattern.match(body, at) if at >= 0 else None


@lru_cache(64)
def _at_once(tokens: int, usage: bool) -> bytes:
    return wire.STREAM_HEAD + wire.ROLE + wire.token(0.0) * tokens + wire.tail(tokens, usage=usage)


def _other(server: Server, path: bytes, body: bytes) -> bytes:
    """Everything that is not a chat: rare, so encoded when asked."""
    if path in (b"/ready", b"/health", b"/health_generate", b"/abort_request"):
        return wire.response(b"")
    if path == b"/v1/loads":
        return _loads()
    if path == b"/v1/models":
        card = {"id": "mock", "object": "model", "created": 1795359161, "owned_by": "sglang", "root": "mock"}
        return _json({"object": "list", "data": [card | {"parent": None, "max_model_len": 262144}]})
    if path in (b"/model_info", b"/get_model_info"):
        return _json({"model_path": "mock", "served_model_name": "mock", "is_generation": True, "model_type": "llama"})
    if path == b"/metrics":
        lines = (f"# TYPE sglang:{name} gauge\nsglang:{name}{_LABELS} 0.0\n" for name in _GAUGES)
        return wire.response("".join(lines).encode(), kind="text/plain; version=0.0.4; charset=utf-8")
    if path == b"/bench/stats":
        return server.stats()
    if path == b"/bench/interval":
        server.interval_s = float(body) / 1e3
        return _json({"token_interval_ms": float(body)})
    return wire.response(b'{"detail":"Not Found"}', status="404 Not Found")


def _json(value: object) -> bytes:
    return wire.response(json.dumps(value, separators=(",", ":")).encode())


def _loads() -> bytes:
    """An idle engine, always: the bench measures the relay, so no backend may look loaded."""
    head = {"timestamp": "2026-11-22T14:52:44.762568+00:00", "version": "0.5.23", "accelerator": None}
    return _json(head | {"num_accelerators": 1, "loads": [{"timestamp": time.time(), **_LOAD}]})


async def _serve(args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    server = Server(loop, args.token_interval_ms / 1e3, args.phases)
    listener = await loop.create_server(lambda: Upstream(server), args.host, args.port, backlog=4096)
    await listener.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-interval-ms", type=float, default=0.0, help="0: a whole stream in one write")
    parser.add_argument("--phases", type=int, default=3, help="groups of streams that decode together")
    parser.add_argument("--core", type=int, help="stay on this core")
    args = parser.parse_args()
    wire.pin(args.core)
    wire.settle_allocator()
    uvloop.run(_serve(args))


if __name__ == "__main__":
    main()
