"""A load generator on asyncio protocols: one process, one thread, one line of JSON.

    python bench/load.py closed  --url 127.0.0.1:9001 --connections 32 --seconds 5
    python bench/load.py open    --url 127.0.0.1:9001 --rate 300 --seconds 5
    python bench/load.py streams --url 127.0.0.1:9001 --streams 600 --rate 50 --seconds 10

closed: each connection asks again when it has its answer. open: Poisson arrivals whatever the answers do; latency counts
from the moment a request was meant to leave, and a new connection is opened when none is free. streams: paced token
streams; the lag of a token is the time from the moment it was due upstream, which bench/upstream.py writes into it.
`--stream` makes closed and open ask for streams. `--watch NAME=PID` reports the CPU that a process used meanwhile.
"""

import argparse
import asyncio
import json
import os
import random
import time
from array import array
from collections import Counter, deque
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop
import wire

_TICKS = os.sysconf("SC_CLK_TCK")
_STAMP_END = 1 + wire.STAMP_DIGITS
_VARIANTS_BYTES = 8_000_000


class Watch:
    """CPU seconds of other processes, and of whole cores, over the measured window."""

    def __init__(self, pairs: list[str]) -> None:
        self._pids = {name: int(pid) for name, _, pid in (pair.partition("=") for pair in pairs)}
        self._start: dict[str, float] = {}
        self._cores: dict[str, float] = {}
        self._wall = 0.0

    def start(self) -> None:
        self._wall = time.monotonic()
        self._start = self._read()
        self._cores = _busy_s()

    def cores_percent(self) -> dict[str, float]:
        """How busy each core was, with everybody's work."""
        wall = time.monotonic() - self._wall
        return {core: round(100 * (busy - self._cores[core]) / wall, 1) for core, busy in _busy_s().items()}

    def percent(self) -> dict[str, float]:
        wall = time.monotonic() - self._wall
        return {name: round(100 * (used - self._start[name]) / wall, 1) for name, used in self._read().items()}

    def us_each(self, requests: int) -> dict[str, float]:
        """CPU microseconds, user and system, that each process took for one request."""
        return {name: round(1e6 * (used - self._start[name]) / max(requests, 1), 1) for name, used in self._read().items()}

    def _read(self) -> dict[str, float]:
        return {"load": time.process_time(), **{name: _cpu_s(pid) for name, pid in self._pids.items()}}


def _cpu_s(pid: int) -> float:
    """User and system seconds of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _busy_s() -> dict[str, float]:
    """Seconds that each core has not been idle, stolen ones included."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _wait, *rest = map(int, counts)
            found[name.removeprefix("cpu")] = (user + nice + system + sum(rest[:3])) / _TICKS
    return found


class Connection(asyncio.Protocol):
    """One connection with at most one request in flight."""

    __slots__ = (
        "busy",
        "first",
        "fragment",
        "intended",
        "mode",
        "now",
        "parser",
        "sent",
        "tokens",
        "told",
        "transport",
    )

    def __init__(self, mode: "Mode") -> None:
        self.mode = mode
        self.busy = False
        self.now = self.first = self.intended = self.sent = 0.0
        self.tokens = 0
        self.fragment = self.told = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.parser = httptools.HttpResponseParser(self)
        self.mode.connected(self)

    def ask(self, payload: bytes, intended: float) -> None:
        self.busy = True
        self.intended = intended
        self.first = 0.0
        self.tokens = 0
        self.fragment = b""
        self.sent = time.monotonic()
        self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        self.now = time.monotonic()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.mode.errors["unparsable"] += 1
            self.transport.close()

    def on_body(self, data: bytes) -> None:
        if self.first == 0.0:
            self.first = self.now
            self.told = data
        if self.mode.reads_stamps:
            self._stamps(data)

    def on_message_complete(self) -> None:
        self.busy = False
        self.mode.answered(self, self.parser.get_status_code())
        if not self.parser.should_keep_alive():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.mode.lost(self)

    def _stamps(self, data: bytes) -> None:
        """Read the due moment out of every token; one torn between two reads waits for its rest."""
        if self.fragment:
            data = self.fragment + data
            self.fragment = b""
        at = data.find(wire.STAMP)
        while at >= 0:
            end = at + _STAMP_END
            if end > len(data):
                self.fragment = data[at:]
                return
            self.tokens += 1
            self.mode.token(self.now - int(data[at + 1 : end]) / 1e6)
            at = data.find(wire.STAMP, end)


class Mode:
    """What the three modes share: payloads, the measured window, counts, the report."""

    reads_stamps = False

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.host, _, port = args.url.removeprefix("http://").rpartition(":")
        self.port = int(port)
        self.errors: Counter[str] = Counter()
        self.first_error = ""
        self.latency = array("d")
        self.first_byte = array("d")
        self.send_late = array("d")
        self.watch = Watch(args.watch)
        self.measuring = self.stopping = False
        self.open: set[Connection] = set()
        self._retries: set[asyncio.Task[None]] = set()
        self._seed = 0
        variants = max(1, min(64, _VARIANTS_BYTES // args.prompt_bytes))
        self._payloads = [self._payload(seed) for seed in range(variants)]

    def _payload(self, seed: int) -> bytes:
        args = self.args
        authority = f"{self.host}:{self.port}"
        size, tokens = args.prompt_bytes, args.tokens
        return wire.chat_request(authority, prompt_bytes=size, seed=seed, tokens=tokens, stream=args.stream)

    def payload(self) -> bytes:
        """The next prompt in turn."""
        self._seed += 1
        return self._payloads[self._seed % len(self._payloads)]

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            await loop.create_connection(lambda: Connection(self), self.host, self.port)

    def connected(self, connection: Connection) -> None:
        self.open.add(connection)

    def lost(self, connection: Connection) -> None:
        self.open.discard(connection)
        if connection.busy and not self.stopping:
            self.errors["connection lost"] += 1
        if not self.stopping:
            self.reopen()

    def reopen(self) -> None:
        task = asyncio.get_running_loop().create_task(self._retry())
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)

    async def _retry(self) -> None:
        try:
            await self.connect(1)
        except OSError as error:
            self.errors[f"connect: {error.strerror}"] += 1

    def answered(self, connection: Connection, status: int) -> None:
        raise NotImplementedError

    def token(self, lag: float) -> None:
        raise NotImplementedError

    def count(self, connection: Connection, status: int) -> None:
        """Take one answer into the window."""
        if status != 200:
            self.errors[f"status {status}"] += 1
            self.first_error = self.first_error or connection.told[:300].decode(errors="replace")
        elif self.measuring:
            self.latency.append(connection.now - connection.intended)
            self.first_byte.append(connection.first - connection.intended)
            self.send_late.append(connection.sent - connection.intended)

    async def window(self) -> float:
        """Warm up, measure for the seconds asked for, and say how long it was."""
        await asyncio.sleep(self.args.warmup)
        self.begin()
        start = time.monotonic()
        await asyncio.sleep(self.args.seconds)
        self.measuring = False
        return time.monotonic() - start

    def begin(self) -> None:
        self.measuring = True
        self.watch.start()

    def report(self, wall: float, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = {
            "mode": self.args.mode,
            "prompt_bytes": self.args.prompt_bytes,
            "stream": self.args.stream,
            "seconds": round(wall, 3),
            "requests": len(self.latency),
            "per_second": round(len(self.latency) / wall, 1),
            "latency_ms": wire.summary_ms(self.latency),
            "first_byte_ms": wire.summary_ms(self.first_byte),
            "cpu_percent": self.watch.percent(),
            "cpu_us_per_request": self.watch.us_each(len(self.latency)),
            "cores_percent": self.watch.cores_percent(),
            "errors": dict(self.errors),
        }
        if self.first_error:
            found["first_error"] = self.first_error
        return found | more

    def hang_up(self) -> None:
        self.stopping = True
        for connection in tuple(self.open):
            connection.transport.abort()

    async def run(self) -> dict[str, Any]:
        raise NotImplementedError


class Closed(Mode):
    """C connections, each with one request in flight; for some seconds or for some requests."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.left = args.requests
        self.finished = asyncio.Event()

    def connected(self, connection: Connection) -> None:
        super().connected(connection)
        self._next(connection)

    def answered(self, connection: Connection, status: int) -> None:
        self.count(connection, status)
        if self.args.requests:
            self.left -= 1
            if self.left <= 0:
                self.finished.set()
                return
        if not self.stopping and connection.parser.should_keep_alive():  # else its loss opens the next
            self._next(connection)

    def _next(self, connection: Connection) -> None:
        connection.ask(self.payload(), time.monotonic())

    async def run(self) -> dict[str, Any]:
        if self.args.requests:
            self.begin()
            start = time.monotonic()
            await self.connect(self.args.connections)
            try:
                await asyncio.wait_for(self.finished.wait(), self.args.seconds)
            except TimeoutError:
                self.errors["requests left when time was up"] = self.left
            wall = time.monotonic() - start
        else:
            await self.connect(self.args.connections)
            wall = await self.window()
        found = self.report(wall, connections=self.args.connections)
        self.hang_up()
        return found


class Open(Mode):
    """Poisson arrivals at a rate, from a pool of connections that grows as needed."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.idle: list[Connection] = []
        self.waiting: deque[float] = deque()
        self.due = 0.0
        self._draw = random.Random(args.seed)
        self._opening = 0

    def connected(self, connection: Connection) -> None:
        super().connected(connection)
        self._opening = max(0, self._opening - 1)
        self._free(connection)

    def lost(self, connection: Connection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)
        super().lost(connection)

    def answered(self, connection: Connection, status: int) -> None:
        self.count(connection, status)
        if connection.parser.should_keep_alive():
            self._free(connection)

    def _free(self, connection: Connection) -> None:
        if self.waiting:
            connection.ask(self.payload(), self.waiting.popleft())
        else:
            self.idle.append(connection)

    def arrive(self) -> None:
        """Send what is due and set the timer for the next arrival."""
        if self.stopping:
            return
        while self.due <= time.monotonic():
            if self.idle:
                self.idle.pop().ask(self.payload(), self.due)
            else:
                self._wait(self.due)
            self.due += self._draw.expovariate(self.args.rate)
        self.timer.at(self.due)

    def _wait(self, due: float) -> None:
        self.waiting.append(due)
        if len(self.open) + self._opening < self.args.connections_max:
            self._opening += 1
            self.reopen()

    async def run(self) -> dict[str, Any]:
        await self.connect(self.args.connections)
        self.timer = wire.Timer(asyncio.get_running_loop(), self.arrive)
        self.due = time.monotonic()
        self.timer.at(self.due)
        wall = await self.window()
        found = self.report(
            wall,
            rate=self.args.rate,
            send_late_ms=wire.summary_ms(self.send_late),
            connections=len(self.open),
            unsent=len(self.waiting),
            unanswered=sum(connection.busy for connection in self.open),
        )
        self.hang_up()
        return found


class Streams(Mode):
    """S token streams at once, each begun again when it ends."""

    reads_stamps = True

    def __init__(self, args: argparse.Namespace) -> None:
        args.stream = True
        args.tokens = args.tokens_per_stream or int(args.rate * _longest_s(args) * 1.5)
        super().__init__(args)
        self.lags = array("d")
        self.short = self.ended = self.failing = 0

    def connected(self, connection: Connection) -> None:
        super().connected(connection)
        self._begin(connection)

    def _begin(self, connection: Connection) -> None:
        connection.ask(self.payload(), time.monotonic())

    def token(self, lag: float) -> None:
        if self.measuring:
            self.lags.append(lag)

    def answered(self, connection: Connection, status: int) -> None:
        self.count(connection, status)
        self.ended += 1
        self.short += status == 200 and connection.tokens != self.args.tokens
        if status == 200 and connection.parser.should_keep_alive() and not self.stopping:
            self._begin(connection)
        elif not self.stopping:  # a refused stream asks again, but not at once
            asyncio.get_running_loop().call_later(0.5, connection.transport.close)

    async def run(self) -> dict[str, Any]:
        for _ in range(self.args.streams):
            await self.connect(1)
            await asyncio.sleep(self.args.ramp / self.args.streams)
        first_bytes = [c.first - c.intended for c in self.open if c.first]
        settled = await self._all_begun()
        wall = await self.window()
        streaming = sum(connection.busy and connection.tokens > 0 for connection in self.open)
        expected = self.args.streams * self.args.rate
        found = self.report(
            wall,
            streams=self.args.streams,
            streaming_at_end=streaming,
            settled_s=round(settled, 3),
            tokens_per_second=round(len(self.lags) / wall, 1),
            tokens_per_second_due=expected,
            share=round(len(self.lags) / wall / expected, 4),
            lag_ms=wire.summary_ms(self.lags),
            lag_p50_ms_by_half=[round(1e3 * part, 4) for part in self._halves()] if self.lags else [],
            falls_behind=self._falls_behind(wall),
            streams_ended=self.ended,
            streams_short=self.short,
            first_byte_ms=wire.summary_ms(first_bytes),
        )
        self.hang_up()
        return found

    async def _all_begun(self) -> float:
        """Wait until every stream has begun, or long enough; the seconds it took after the ramp."""
        start = time.monotonic()
        while time.monotonic() - start < self.args.settle:
            if sum(connection.first > 0 for connection in self.open) >= self.args.streams:
                break
            await asyncio.sleep(0.02)
        return time.monotonic() - start

    def _halves(self) -> tuple[float, float]:
        """The median lag of the first and of the second half of the window."""
        half = len(self.lags) // 2
        return wire.quantile(sorted(self.lags[:half]), 0.5), wire.quantile(sorted(self.lags[half:]), 0.5)

    def _falls_behind(self, wall: float) -> bool:
        """Tokens are missing, or the lag has grown by more than a twentieth of the window."""
        if len(self.lags) < 0.97 * self.args.streams * self.args.rate * wall:
            return True
        first, second = self._halves()
        return second - first > 0.05 * wall


def _longest_s(args: argparse.Namespace) -> float:
    """How long a stream may have to last."""
    return float(args.ramp + args.settle + args.warmup + args.seconds)


_MODES: dict[str, type[Mode]] = {"closed": Closed, "open": Open, "streams": Streams}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=_MODES)
    parser.add_argument("--url", required=True, help="host:port")
    parser.add_argument("--seconds", type=float, default=5.0, help="the measured window; with --requests the longest wait")
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--prompt-bytes", type=int, default=700)
    parser.add_argument("--tokens", type=int, default=20, help="max_tokens; of a stream its number of chunks")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--connections-max", type=int, default=1024, help="open: no more than these")
    parser.add_argument("--requests", type=int, default=0, help="closed: stop after this many")
    parser.add_argument("--rate", type=float, default=300.0, help="open: requests a second; streams: tokens a second each")
    parser.add_argument("--streams", type=int, default=600)
    parser.add_argument("--ramp", type=float, default=1.0, help="streams: seconds over which they begin")
    parser.add_argument("--settle", type=float, default=10.0, help="streams: longest wait until all have begun")
    parser.add_argument("--tokens-per-stream", type=int, default=0, help="streams: 0 makes each outlast the window")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--watch", action="append", default=[], metavar="NAME=PID")
    parser.add_argument("--core", type=int, help="stay on this core")
    return parser.parse_args()


async def _run(args: argparse.Namespace) -> dict[str, Any]:
    return await _MODES[args.mode](args).run()


def main() -> None:
    args = _arguments()
    wire.pin(args.core)
    wire.settle_allocator()
    print(json.dumps(uvloop.run(_run(args))))


if __name__ == "__main__":
    main()
