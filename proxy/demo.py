"""`bestserve demo`: an emulated fleet, the proxy before it, a little traffic, and a picture of what goes where.

The three backends are processes of their own that speak SGLang's dialect; the proxy runs here, so that the picture is drawn from the
very Records that it makes, whoever sent the requests.
"""

import asyncio
import contextlib
import math
import random
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bestserve.policy.facts import Ending
from bestserve.policy.record import Record
from bestserve.policy.reward import is_on_time

from .app import build
from .config import Config, parse
from .errors import BackendFailure
from .listen import bind
from .serve import loop_factory, serve, server_of
from .serving import Serving
from .upstream import Upstream

FLEET = {"small": "qwen3-1.7b-h100", "medium": "qwen3-8b-h100", "large": "qwen3-32b-h100"}
PROMPTS = (
    "Write a function that merges two sorted lists.",
    "What is the capital of France?",
    "Summarise the plot of a novel you like in three sentences.",
    "Translate into German: the sea is calm tonight.",
    "A train leaves at nine and travels at 80 km/h. Where is it at noon?",
    "Plan a week of simple dinners for two.",
)
READY_S = 30.0
SHOWN_S = 30.0
LINE_S = 5.0
SWING, WAVE_S = 0.8, 60.0  # the demo's own traffic comes and goes


def run(*, host: str, port: int, load: float, time_scale: float, seconds: float | None) -> int:
    """Run the demo until Ctrl-C, or for `seconds`. Returns the exit code."""
    try:
        listening = bind(host, port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from error
    with _fleet(time_scale) as urls, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_Demo(_config(urls, host, listening.getsockname()[1]), load, seconds).run(listening))


@contextlib.contextmanager
def _fleet(time_scale: float) -> Iterator[dict[str, str]]:
    """Three emulated backends, as name -> url, ended with the demo."""
    processes, urls = [], {}
    try:
        for name, profile in FLEET.items():
            with bind("127.0.0.1", 0) as probe:
                port = probe.getsockname()[1]
            how = ["--profile", profile, "--port", str(port), "--time-scale", str(time_scale)]
            command = [sys.executable, "-m", "bestserve.proxy", "emulate", *how]
            processes.append(subprocess.Popen(command, start_new_session=True))  # noqa: S603  our own module
            urls[name] = f"http://127.0.0.1:{port}"
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            _buried(process)


def _buried(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _config(urls: dict[str, str], host: str, port: int) -> Config:
    backends = "\n".join(
        f"  - {{name: {name}, url: '{urls[name]}', model: {_model(profile)}, profile: {profile},"
        f" capabilities: [tools, json, vision, logprobs, embeddings, responses]}}"
        for name, profile in FLEET.items()
    )
    text = f"""
listen: {{host: '{host}', port: {port}, drain_s: 5}}
backends:
{backends}
models: {{auto: [small, medium, large]}}
default_model: auto
budgets: [none, 1024, {{tokens: 384, instruction: "Answer in at most 200 words."}}, 128]
log: {{level: warning}}
"""
    return parse(text, {}, source="demo.yaml")


def _model(profile: str) -> str:
    from bestserve.profiles import load

    return load(profile).model


@dataclass(slots=True)
class _Demo:
    config: Config
    load: float
    seconds: float | None
    console: Console = field(default_factory=lambda: Console(width=None if sys.stdout.isatty() else 120))
    seen: deque[Record] = field(default_factory=lambda: deque(maxlen=100_000))
    total: Counter[str] = field(default_factory=Counter)

    async def run(self, listening: socket.socket) -> int:
        app = build(self.config)
        server = server_of(app, self.config)
        serving = asyncio.create_task(serve(server, listening))
        beside = asyncio.create_task(self._beside(app.state.serving))
        await asyncio.wait([serving, beside], timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
        failed = beside.exception() if beside.done() else None
        beside.cancel()
        server.should_exit = True
        await asyncio.wait([serving, beside])
        if failed is not None:
            raise failed
        return 0

    async def _beside(self, here: Serving) -> None:
        base = f"http://{self.config.listen.host}:{self.config.listen.port}"
        await self._until_up(here)
        self.console.print(f"ready: {base}/v1   e.g. openai.OpenAI(base_url='{base}/v1', api_key='any')\nCtrl-C ends it.", highlight=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._show(here))
            if self.load:
                group.create_task(self._traffic(Upstream(base), group))

    async def _until_up(self, here: Serving) -> None:
        deadline = time.monotonic() + READY_S
        while not all(here.backends_up().values()):
            if time.monotonic() > deadline:
                down = [name for name, up in here.backends_up().items() if not up]
                raise click.ClickException(f"did not come up within {READY_S:.0f} s: {', '.join(down)}")
            await asyncio.sleep(0.05)

    async def _traffic(self, proxy: Upstream, group: asyncio.TaskGroup) -> None:
        dice = random.Random(0)  # noqa: S311  the same traffic every time
        while True:
            await asyncio.sleep(dice.expovariate(self.load * (1 + SWING * math.sin(2 * math.pi * time.monotonic() / WAVE_S))))
            group.create_task(_one_request(proxy, dice.choice(PROMPTS), stream=dice.random() < 0.7))

    async def _show(self, here: Serving) -> None:
        """A table that lives where there is a terminal, and a line now and then where there is a pipe."""
        if not self.console.is_terminal:
            while True:
                await asyncio.sleep(LINE_S)
                self._take(here)
                self.console.print(self._line(here), highlight=False)
        with Live(console=self.console, refresh_per_second=4) as live:
            while True:
                self._take(here)
                live.update(self._table(here))
                await asyncio.sleep(0.25)

    def _take(self, here: Serving) -> None:
        while here.recent:
            record = here.recent.popleft()
            self.seen.append(record)
            self.total[str(record.decision.action.backend)] += 1

    def _table(self, here: Serving) -> Table:
        table = Table(title=f"the last {SHOWN_S:.0f} s", title_justify="left")
        for name in ("backend", "model", "in flight", "answers", "tokens", "on time", "first token", "budgets", "since start"):
            table.add_column(name, justify="left" if name in ("backend", "model", "budgets") else "right")
        recent = [record for record in self.seen if record.wall > time.time() - SHOWN_S]
        for backend in here.fleet.backends:
            rows = [r for r in recent if r.decision.action.backend == backend.name]
            in_flight = str(here.fleet.in_flight()[backend.name])
            table.add_row(backend.name, backend.model, in_flight, *_figures(rows), str(self.total[backend.name]))
        return table

    def _line(self, here: Serving) -> str:
        counts = here.fleet.in_flight()
        parts = [f"{b.name}: {self.total[b.name]} answered, {counts[b.name]} in flight" for b in here.fleet.backends]
        return "   ".join(parts)


def _figures(rows: list[Record]) -> tuple[str, ...]:
    done = [r for r in rows if r.outcome.ending is Ending.DONE]
    ttfts = sorted(r.outcome.ttft_s for r in done if r.outcome.ttft_s is not None)
    budgets = Counter(r.decision.action.budget.name for r in rows)
    return (
        str(len(done)),
        str(sum(r.outcome.completion_tokens or 0 for r in done)),
        f"{sum(is_on_time(r.outcome, r.ask.slo) for r in done) / len(done):.0%}" if done else "–",
        f"{ttfts[len(ttfts) // 2] * 1000:.0f} ms" if ttfts else "–",
        ", ".join(f"{name} {n}" for name, n in budgets.most_common()) or "–",
    )


async def _one_request(proxy: Upstream, prompt: str, *, stream: bool) -> None:
    """Ask through the front door. What fails is in the picture."""
    flag = "true" if stream else "false"
    body = f'{{"model":"auto","stream":{flag},"messages":[{{"role":"user","content":"{prompt}"}}]}}'
    with contextlib.suppress(BackendFailure):
        reply = await proxy.exchange("POST", "/v1/chat/completions", body.encode(), stream=stream)
        try:
            await reply.whole()
        finally:
            reply.close()
