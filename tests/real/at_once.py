"""Simulated against real: a real SGLang on this machine's CPU at 1, 4, 8 and 16 requests at once, and what the simulator's engine says.

    .venv/bin/python tests/real/at_once.py --profile mine.toml

`mine.toml` is what `tests/real/profiling.py --out mine.toml` wrote on the same machine; without it, the profile that ships. So many
clients ask, each the next question a moment after its last was answered, with prompts and answers of mixed lengths; every such script is
played several times, in turns, on a machine at rest. Predicted is the same script turned by the simulator alone: when each call is sent
follows from its own answers.
"""

import argparse
import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).resolve().parent))

import backend

from bestserve.profiles import load
from bestserve.profiles.schema import Engine
from bestserve.proxy.profiling import script
from bestserve.proxy.profiling.backend import TIMEOUTS, Lookout, Target, reach
from bestserve.proxy.profiling.drive import drive
from bestserve.proxy.profiling.replay import replay
from bestserve.proxy.profiling.runs import Run
from bestserve.proxy.profiling.script import Script
from bestserve.proxy.upstream import Upstream

CLIENTS = (1, 4, 8, 16)
PROMPT, ANSWER = (24, 512), (16, 64)  # tokens, log-uniform between
PAUSE_S = 0.3  # a client's, before it asks again


@dataclass(frozen=True, slots=True)
class Row:
    """So many clients: seconds, and tokens a second."""

    clients: int
    calls: int
    ttft_s: float  # median
    predicted_ttft_s: float
    tpot_s: float  # mean over calls
    predicted_tpot_s: float
    tokens_per_s: float
    predicted_tokens_per_s: float

    def errors(self) -> tuple[float, float, float]:
        """Predicted / measured - 1."""
        return (
            self.predicted_ttft_s / self.ttft_s - 1,
            self.predicted_tpot_s / self.tpot_s - 1,
            self.predicted_tokens_per_s / self.tokens_per_s - 1,
        )


def asked(clients: int, engine: Engine) -> Script:
    """A few questions of each client."""
    calls = script.mixed(max(6, 3 * clients), PROMPT, ANSWER, seed=clients)
    return script.closed(f"{clients} clients", calls, clients, engine.prefill_s(200), clients, PAUSE_S)


async def play(url: str, scripts: list[Script], plays: int, seed: int) -> dict[str, list[Run]]:
    """Every script so often, in turns, each time with other prompts."""
    target, dice = Target(Upstream(url, timeouts=TIMEOUTS), "smollm2"), random.Random(seed)
    played: dict[str, list[Run]] = {one.key: [] for one in scripts}
    try:
        await reach(target)
        lookout = Lookout(target)
        for n in (1, 4, 4):
            await drive(script.warm(n, 64, 8, dice.randrange(1 << 40)), target, lookout)
        for _ in range(plays):
            for one in scripts:
                run = await drive(script.anew(one, dice.randrange(1 << 40)), target, lookout)
                if run.failed is not None:
                    raise RuntimeError(f"{one.key}: {run.failed}")
                played[one.key].append(run)
                print(f"{one.key}: {run.took_s:.1f} s", file=sys.stderr)
    finally:
        target.upstream.close()
    return played


def compared(one: Script, runs: list[Run], clients: int, engine: Engine) -> Row:
    """The runs of one script against the simulator's."""
    streams = [stream for run in runs for stream in run.streams]
    expected = replay(one.calls, engine)
    tokens = [call.answer for call in one.calls]
    return Row(
        clients,
        len(streams),
        median(s.first - s.sent for s in streams),
        median(t.first - t.sent for t in expected),
        fmean((s.last - s.first) / (s.tokens - 1) for s in streams),
        fmean((t.last - t.first) / (n - 1) for t, n in zip(expected, tokens, strict=True)),
        sum(s.tokens for s in streams) / sum(max(s.last for s in run.streams) for run in runs),
        sum(tokens) / max(t.last for t in expected),
    )


def main() -> None:
    """Play, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smollm2-135m-cpu")
    parser.add_argument("--plays", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    engine = load(said.profile).engine
    scripts = {clients: asked(clients, engine) for clients in CLIENTS}
    with backend.sglang(backend.free_port()) as server:
        played = asyncio.run(play(server.url, list(scripts.values()), said.plays, said.seed))
    rows = [compared(one, played[one.key], clients, engine) for clients, one in scripts.items()]
    if said.json:
        json.dump([{**asdict(row), "errors": row.errors()} for row in rows], sys.stdout, indent=1)
        return
    print("| clients | calls | first token | predicted | a token | predicted | tokens/s | predicted |\n|" + " ---: |" * 8)
    for row in rows:
        first, each, rate = row.errors()
        print(
            f"| {row.clients} | {row.calls} | {row.ttft_s * 1e3:.0f} ms | {row.predicted_ttft_s * 1e3:.0f} ms ({first:+.0%}) |"
            f" {row.tpot_s * 1e3:.1f} ms | {row.predicted_tpot_s * 1e3:.1f} ms ({each:+.0%}) |"
            f" {row.tokens_per_s:.1f} | {row.predicted_tokens_per_s:.1f} ({rate:+.0%}) |"
        )


if __name__ == "__main__":
    main()
