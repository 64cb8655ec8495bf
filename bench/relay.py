"""What the proxy adds, by a client's clock: direct against proxied, interleaved in one run on two cores.

The mock upstream and the load generator share one core, the relay has the other to itself.

    python bench/relay.py                      # direct and the proxy
    python bench/relay.py --peer all           # and the small relays of bench/peers
    python bench/relay.py --quick --no-proxy --peer bare
    python bench/relay.py --only added,paced --json result.json

bench/README.md says what each figure means. Nothing here passes or fails: it prints.
"""

import argparse
import http.client
import importlib.util
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import wire

HERE = Path(__file__).resolve().parent
PEERS = {
    "bare": "uvloop",
    "starlette-protocol": "httptools",
    "starlette-aiohttp": "aiohttp",
    "starlette-httpx": "httpx",
}
"""Each peer and the module it cannot do without."""

CONFIG = """\
listen: {{host: 127.0.0.1, port: {port}}}
backends:
  - {{name: a, url: "{upstream}", model: mock, profile: {profile}, context: 262144}}
  - {{name: b, url: "{upstream}", model: mock, profile: {profile}, context: 262144}}
  - {{name: c, url: "{upstream}", model: mock, profile: {profile}, context: 262144}}
models: {{auto: [a, b, c]}}
budgets: [none, 1024, 384, 128]
"""

YARDSTICKS = """\
Published elsewhere, by other methods on other machines: TensorZero adds 0.35 / 0.94 ms p50/p99 at 10k req/s (4 vCPU);
LiteLLM 2 / 13 ms p50/p99 at 1,170 req/s over 4 instances; llm-d's picker takes 129 req/s at 220 KB prompts.
By this method on another 2-core machine, non-streamed req/s: nginx 34-64k, SGLang's Rust router 13-17k, Starlette with a
bare protocol 11-14k, with aiohttp 5.4-5.8k, with httpx 0.4-0.5k, LiteLLM's proxy 0.08k."""

_Report = dict[str, Any]
_Path = tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """One call of bench/load.py."""

    name: str
    load: tuple[str, ...]
    interval_ms: float = 0.0  # the pace of the upstream's tokens


MEASURES = (
    Measure("added", ("open", "--rate", "300")),
    Measure("max", ("closed", "--connections", "32")),
    Measure("coalesced", ("closed", "--connections", "32", "--stream", "--tokens", "20")),
    Measure("paced", ("streams", "--streams", "600", "--rate", "50"), interval_ms=20.0),
    Measure("first-1k", ("closed", "--connections", "1", "--stream", "--prompt-bytes", "700")),
    Measure("first-400k", ("closed", "--connections", "1", "--stream", "--prompt-bytes", "400000")),
    Measure("first-220k", ("closed", "--connections", "1", "--stream", "--prompt-bytes", "220000")),
    Measure("large", ("closed", "--connections", "8", "--prompt-bytes", "220000")),
)

# Measure, label, where in the report, whether the difference to direct is the point.
ROWS: tuple[tuple[str, str, _Path, bool], ...] = (
    ("added", "300 req/s open loop: latency p50, ms", ("latency_ms", "p50"), True),
    ("added", "  p99, ms", ("latency_ms", "p99"), True),
    ("added", "  relay CPU a request, us", ("cpu_us_per_request", "relay"), False),
    ("max", "non-streamed req/s, 32 connections", ("per_second",), False),
    ("max", "  latency p50, ms", ("latency_ms", "p50"), False),
    ("max", "  relay CPU, %", ("cpu_percent", "relay"), False),
    ("max", "  relay CPU a request, us", ("cpu_us_per_request", "relay"), False),
    ("coalesced", "streams/s of 20 coalesced chunks, 32 connections", ("per_second",), False),
    ("coalesced", "  relay CPU a stream, us", ("cpu_us_per_request", "relay"), False),
    ("paced", "600 streams x 50 tokens/s: tokens/s received", ("tokens_per_second",), False),
    ("paced", "  streams that run, of 600", ("streaming_at_end",), False),
    ("paced", "  seconds after the ramp until all have begun", ("settled_s",), False),
    ("paced", "  falls behind", ("falls_behind",), False),
    ("paced", "  token lag p50, ms", ("lag_ms", "p50"), True),
    ("paced", "  token lag p99, ms", ("lag_ms", "p99"), True),
    ("paced", "  first byte p50, ms", ("first_byte_ms", "p50"), True),
    ("paced", "  relay CPU, %", ("cpu_percent", "relay"), False),
    ("paced", "  load and upstream CPU, %", ("core_percent",), False),
    ("paced", "  streams upstream 1 s after the clients left", ("left_upstream",), False),
    ("first-1k", "first byte p50, 700 B prompt, ms", ("first_byte_ms", "p50"), True),
    ("first-220k", "first byte p50, 220 KB prompt, ms", ("first_byte_ms", "p50"), True),
    ("first-400k", "first byte p50, 400 KB prompt, ms", ("first_byte_ms", "p50"), True),
    ("large", "req/s, 220 KB prompts, 8 connections", ("per_second",), False),
)


@dataclass
class Target:
    """Something that answers: the upstream itself or a relay before it."""

    name: str
    port: int
    argv: list[str] = field(default_factory=list)  # empty: the upstream
    process: "subprocess.Popen[bytes] | None" = None
    startup_ms: list[float] = field(default_factory=list)


# Processes.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def spawned(argv: list[str], core: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A child on one core, its output in a file; ended when the block is left."""
    with log.open("wb") as out:
        pinned = partial(wire.pin, core)
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, preexec_fn=pinned, cwd=log.parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_healthy(process: "subprocess.Popen[bytes]", port: int, limit_s: float = 20.0) -> bool:
    """Until GET /health is 200; False if the process ends or time runs out first."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end and process.poll() is None:
        try:
            if ask(port, "GET", "/health")[0] == 200:
                return True
        except OSError:
            pass
        time.sleep(0.004)
    return False


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(kib) / 1024, 1)


class Bench:
    """One upstream, the targets before it, and what was found."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.upstream_port = free_port()
        self.upstream: subprocess.Popen[bytes] | None = None
        self.notes: list[str] = []
        self.found: dict[str, dict[str, list[_Report]]] = {}
        self.rss: dict[str, _Report] = {}

    # Starting.

    def targets(self) -> list[Target]:
        targets = [Target("direct", self.upstream_port)]
        if not self.args.no_proxy:
            targets.append(self._proxy())
        for name in self.args.peer:
            module = PEERS[name]
            if importlib.util.find_spec(module) is None:
                self.say(f"{name}: left out, {module} is not installed (pip install {module})")
            else:
                targets.append(self._peer(name))
        return targets

    def _proxy(self) -> Target:
        port = free_port()
        config = self.folder / "bench.yaml"
        upstream = f"http://127.0.0.1:{self.upstream_port}"
        policy = f"policy: {self.args.policy}\n" if self.args.policy else ""
        config.write_text(CONFIG.format(port=port, upstream=upstream, profile=self.args.profile) + policy)
        command = ["-m", "bestserve.proxy", "serve", "--config", str(config), "--port", str(port)]
        return Target("proxy", port, [sys.executable, *command])

    def _peer(self, name: str) -> Target:
        port = free_port()
        program = HERE / "peers" / f"{name.replace('-', '_')}.py"
        command = [str(program), "--port", str(port), "--upstream", f"http://127.0.0.1:{self.upstream_port}"]
        return Target(name, port, [sys.executable, *command])

    def start_upstream(self, stack: ExitStack) -> None:
        command = [str(HERE / "upstream.py"), "--port", str(self.upstream_port), "--phases", str(self.args.phases)]
        argv = [sys.executable, *command]
        process = stack.enter_context(spawned(argv, self.args.load_core, self.folder / "upstream.log"))
        if not wait_healthy(process, self.upstream_port):
            raise SystemExit("the mock upstream does not start:\n" + self._log("upstream"))
        self.upstream = process

    def start(self, target: Target, stack: ExitStack) -> bool:
        """Start a relay and time it until /health answers; a relay that does not start is noted and left out."""
        if not target.argv:
            return True
        begun = time.monotonic()
        log = self.folder / f"{target.name}.log"
        target.process = stack.enter_context(spawned(target.argv, self.args.relay_core, log))
        if wait_healthy(target.process, target.port):
            target.startup_ms.append(round(1e3 * (time.monotonic() - begun), 1))
            return True
        self.say(f"{target.name}: left out, it does not start:\n{self._log(target.name)}")
        return False

    def _log(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join("    " + line for line in lines[-6:])

    def say(self, note: str) -> None:
        self.notes.append(note)
        print(note, file=sys.stderr)

    # Measuring.

    def load(self, target: Target, *options: str) -> _Report:
        watch = ["--watch", f"upstream={self.upstream.pid}"] if self.upstream else []
        if target.process is not None:
            watch += ["--watch", f"relay={target.process.pid}"]
        core = ["--core", str(self.args.load_core)]
        argv = [sys.executable, str(HERE / "load.py"), *options, "--url", f"127.0.0.1:{target.port}", *watch, *core]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            self.say(f"{target.name}: load {' '.join(options)} failed: {done.stderr.strip()[-300:]}")
            return {"failed": done.stderr[-300:]}
        report: _Report = json.loads(done.stdout)
        if report["errors"]:
            first = report.get("first_error", "")
            self.say(f"{target.name}: load {' '.join(options)}: {report['errors']} {first}")
        return report

    def measure(self, measure: Measure, target: Target) -> None:
        self.pace(measure.interval_ms)
        seconds = str(self.args.seconds)
        report = self.load(target, *measure.load, "--seconds", seconds, "--warmup", str(self.args.warmup))
        if measure.interval_ms and "failed" not in report:
            time.sleep(1.0)
            report["left_upstream"] = json.loads(ask(self.upstream_port, "GET", "/bench/stats")[1])["running"]
            report["core_percent"] = report["cpu_percent"]["load"] + report["cpu_percent"]["upstream"]
        if "failed" not in report:
            report["others_percent"] = self._others(report)
        self.found.setdefault(measure.name, {}).setdefault(target.name, []).append(report)

    def _others(self, report: _Report) -> float:
        """How much of the two cores went to work that is not this bench's: a figure taken beside much of it is noise."""
        ours = float(sum(report["cpu_percent"].values()))
        cores = {str(self.args.relay_core), str(self.args.load_core)}
        busy = float(sum(report["cores_percent"].get(core, 0.0) for core in cores))
        return round(busy - ours, 1)

    def pace(self, interval_ms: float) -> None:
        ask(self.upstream_port, "POST", "/bench/interval", str(interval_ms))

    def measure_rss(self, target: Target) -> None:
        """A fresh process; three quarters of the requests non-streamed, one quarter streams; memory at three points."""
        with ExitStack() as stack:
            if target.process is None or not self.start(target, stack):
                return
            self.pace(0.0)
            total = self.args.rss
            pid = target.process.pid
            points = [rss_mib(pid)]
            begun = time.monotonic()
            done = 0
            for plain, streams in ((total // 10, 0), (total * 13 // 20, total // 4)):
                for count, options in ((plain, ()), (streams, ("--stream",))):
                    left = self.args.rss_seconds - (time.monotonic() - begun)
                    if count and left > 1:
                        limits = ("--requests", str(count), "--seconds", f"{left:.0f}")
                        done += self.load(target, "closed", *limits, *options).get("requests", 0)
                points.append(rss_mib(pid))
            self.rss[target.name] = {"requests": done, "rss_mib": points}

    def import_ms(self, times: int = 5) -> float | None:
        """Milliseconds to import the proxy's application in a fresh interpreter; the least of a few."""
        code = "import time; t = time.perf_counter(); import bestserve.proxy.app; print(time.perf_counter() - t)"
        found = []
        for _ in range(times):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
            if done.returncode:
                self.say("import time: left out: " + done.stderr.strip().rpartition("\n")[2])
                return None
            found.append(1e3 * float(done.stdout))
        return round(min(found), 1)

    def rounds(self, targets: list[Target]) -> None:
        """Every measure on every target in turn, so that a disturbance falls on all alike."""
        for number in range(self.args.rounds):
            for measure in (m for m in MEASURES if m.name in self.args.only):
                progress(f"round {number + 1} of {self.args.rounds}: {measure.name}")
                for target in targets:
                    self.measure(measure, target)

    def memory(self, targets: list[Target]) -> None:
        for target in (target for target in targets if target.argv and self.args.rss):
            progress(f"memory: {target.name}")
            self.measure_rss(target)

    def measure_all(self, targets: list[Target]) -> list[Target]:
        """What could be measured of the targets that start; if the upstream dies, what was found until then."""
        with ExitStack() as stack:
            self.start_upstream(stack)
            with ExitStack() as relays:
                targets = [target for target in targets if self.start(target, relays)]
                try:
                    self.rounds(targets)
                    relays.close()
                    self.memory(targets)
                except OSError as error:
                    code = self.upstream.poll() if self.upstream else None
                    self.say(f"stopped early: {error}; the upstream's exit status is {code}\n{self._log('upstream')}")
        return targets

    def run(self) -> _Report:
        machine = describe_machine()
        targets = self.measure_all(self.targets())
        imported = None if self.args.no_proxy else self.import_ms()
        return {
            "machine": machine | {"load_average_after": os.getloadavg()[0]},
            "settings": {key: value for key, value in vars(self.args).items() if key != "json"},
            "targets": [target.name for target in targets],
            "measures": self.found,
            "rss": self.rss,
            "startup_ms": {target.name: target.startup_ms for target in targets if target.startup_ms},
            "import_ms": imported,
            "notes": self.notes,
        }


def describe_machine() -> _Report:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# Telling.


def value(report: _Report, path: _Path) -> float | None:
    found: Any = report
    for key in path:
        if not isinstance(found, dict) or found.get(key) is None:
            return None
        found = found[key]
    return float(found)


def median(reports: list[_Report], path: _Path) -> float | None:
    values = [v for v in (value(report, path) for report in reports) if v is not None]
    return statistics.median(values) if values else None


def added(reports: list[_Report], direct: list[_Report], path: _Path) -> float | None:
    """The median over rounds of the difference to direct in the same round."""
    pairs = ((value(mine, path), value(base, path)) for mine, base in zip(reports, direct, strict=False))
    values = [mine - base for mine, base in pairs if mine is not None and base is not None]
    return statistics.median(values) if values else None


def quietest(found: dict[str, list[_Report]]) -> dict[str, list[_Report]]:
    """Of one measure the round that least other work disturbed, by its worst disturbed target."""
    rounds = min((len(reports) for reports in found.values()), default=0)
    worst = [max(reports[i].get("others_percent", 200.0) for reports in found.values()) for i in range(rounds)]
    best = worst.index(min(worst)) if worst else 0
    return {name: reports[best : best + 1] for name, reports in found.items()}


def cell(found: dict[str, list[_Report]], target: str, path: _Path, *, differs: bool) -> str:
    middle = median(found.get(target, []), path)
    if middle is None:
        return "-"
    if path == ("falls_behind",):
        return "yes" if middle else "no"
    text = f"{middle:,.0f}" if middle >= 1000 or middle == int(middle) else f"{middle:.3g}"
    extra = added(found[target], found["direct"], path) if differs and target != "direct" else None
    return text if extra is None else f"{text} ({extra:+.2f})"


def table(result: _Report) -> list[list[str]]:
    targets: list[str] = result["targets"]
    picked = result["settings"]["pick"]
    rows = [[f"{picked} of rounds (in brackets: added to direct)", *targets]]
    measures = {name: quietest(found) if picked == "quietest" else found for name, found in result["measures"].items()}
    for name, label, path, differs in ROWS:
        if name in measures:
            found = measures[name]
            rows.append([label, *(cell(found, target, path, differs=differs) for target in targets)])
    rows.append(["other work on the two cores meanwhile, % of 200", *(_disturbed(measures, target) for target in targets)])
    rows.append(["start until /health, ms", *(_each(result["startup_ms"], targets, _startup))])
    if result["rss"]:
        rows.append(["RSS at start, after a tenth, after all, MiB", *_each(result["rss"], targets, _memory)])
        rows.append(["  requests", *_each(result["rss"], targets, lambda found: f"{found['requests']:,}")])
    return rows


def _each(found: dict[str, Any], targets: list[str], tell: Callable[[Any], str]) -> list[str]:
    return [tell(found[target]) if target in found else "-" for target in targets]


def _disturbed(measures: dict[str, dict[str, list[_Report]]], target: str) -> str:
    reports = [report for found in measures.values() for report in found.get(target, [])]
    middle = median(reports, ("others_percent",))
    return "-" if middle is None else f"{middle:.0f}"


def _startup(samples: list[float]) -> str:
    return f"{statistics.median(samples):.0f}"


def _memory(found: _Report) -> str:
    return " ".join(f"{mib:.0f}" for mib in found["rss_mib"])


def show(result: _Report) -> None:
    machine = result["machine"]
    print(
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"load average {machine['load_average_before']:.1f} before, {machine['load_average_after']:.1f} after\n"
    )
    rows = table(result)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        first, *rest = (text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True)))
        print("| " + " | ".join([first, *rest]) + " |")
        if number == 0:
            print("| " + " | ".join("-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)) + " |")
    if result["import_ms"] is not None:
        print(f"\nimport bestserve.proxy.app: {result['import_ms']} ms")
    print("\n" + YARDSTICKS)


def _arguments() -> argparse.Namespace:
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], choices=[*PEERS, "all"])
    parser.add_argument("--no-proxy", action="store_true", help="leave bestserve itself out")
    parser.add_argument("--profile", default="qwen3-8b-h100", help="of the three backends")
    parser.add_argument("--policy", help="the section of the config, e.g. '{checkpoint: none}': the fallback decides; default: as it ships")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measure, target and round")
    parser.add_argument("--pick", choices=("median", "quietest"), default="median", help="what the table shows of rounds")
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--only", default=",".join(names), help="of " + ",".join(names))
    parser.add_argument("--rss", type=int, default=200_000, help="requests of the memory measure; 0 leaves it out")
    parser.add_argument("--rss-seconds", type=float, default=120.0, help="of it at most, each target")
    parser.add_argument("--phases", type=int, default=3, help="groups of streams whose tokens come together")
    parser.add_argument("--relay-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one short round, under half a minute for two targets")
    parser.add_argument("--json", metavar="FILE", help="write everything there; - for stdout in place of the table")
    args = parser.parse_args()
    args.peer = list(PEERS) if "all" in args.peer else list(dict.fromkeys(args.peer))
    args.only = [name.strip() for name in args.only.split(",")]
    if unknown := set(args.only) - set(names):
        parser.error(f"--only: {', '.join(sorted(unknown))}: must be of {', '.join(names)}")
    if args.quick:
        args.rounds, args.seconds, args.warmup = 1, 0.7, 0.2
        args.rss = min(args.rss, 2000)
    return args


def main() -> None:
    args = _arguments()
    if not {args.relay_core, args.load_core} <= os.sched_getaffinity(0):
        progress(f"cores {args.relay_core} and {args.load_core} are not both there: the figures mix")
    with tempfile.TemporaryDirectory(prefix="bestserve-bench-") as folder:
        result = Bench(args, Path(folder)).run()
    if args.json == "-":
        print(json.dumps(result, indent=1))
        return
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
