"""What is bought at which load: an emulated server of one's own, and a second one that LiteLLM calls as a provider.

    python bench/overflow.py --plot docs/overflow.svg

Each variant is a proxy of its own. Load arrives at random (Poisson), as many requests a second as a multiple of what the own server can do.
Told are who answered and who was shed, as shares, what was paid by the metrics, and what by the sum over the replay log's Records.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bestserve.proxy.entries import Kept, read
from bestserve.proxy.segments import files

TOKENS, STEP_S, PLACES = 40, 0.02, 8
CAPACITY = PLACES / (TOKENS * STEP_S)  # answers a second of the own server
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
ENGINE = f"""
params_b = 1
gpu = "none"
n_gpus = 1
capabilities = ["tools", "json"]
[engine]
prefill_tokens_per_s = 50000
prefill_fixed_s = 0.001
step_fixed_s = {STEP_S}
step_per_seq_s = 0.00001
step_per_kv_token_s = 0.0000001
kv_tokens = 400000
context = 8192
prefill_batch_tokens = 8192
[quality]
""" + "\n".join(f"{t} = 0.5" for t in ("code", "math", "qa", "extract", "summ", "rewrite", "translate", "write", "classify", "chat"))

VARIANTS = {  # dollars per million tokens of an answer, cap in dollars an hour, loads
    "nothing to buy": (None, None, LOADS),
    "worth its price": (20.0, 10.0, LOADS),
    "too dear": (400.0, 10.0, LOADS),
    "worth it, capped": (20.0, 0.05, (2.0,)),
}


@contextlib.contextmanager
def started(*words: str, ready: str, port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "bestserve.proxy", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=2):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def config(folder: Path, own: int, bought: int, price: float | None, cap: float | None) -> Path:
    rows = [f"{{name: own, url: 'http://127.0.0.1:{own}', model: m, profile: own.toml}}"]
    if price is not None:
        rows.append(
            f"{{name: paid, engine: litellm, model: openai/m, api_key: x, litellm: {{api_base: 'http://127.0.0.1:{bought}/v1'}},"
            f" quality: 0.5, usd_per_million_input: 0, usd_per_million_output: {price}, spend: {{usd_per_hour: {cap}}}}}"
        )
    text = "backends:\n" + "".join(f"  - {row}\n" for row in rows)
    text += (
        "policy: {checkpoint: none, fallback: deadline-greedy, usd_weight: 100}\nslo: {ttft_ms: 1500, tpot_ms: 60}\nreplay: {dir: replay}\n"
    )
    (folder / "bestserve.yaml").write_text(text)
    return folder / "bestserve.yaml"


async def load(url: str, rate: float, seconds: float, dice: random.Random) -> Counter[str]:
    """Ask at random times; who answered each, or the status."""

    async def one(client: httpx.AsyncClient) -> str:
        body = {"model": "auto", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "Tell a long story about a lighthouse."}]}
        answer = await client.post(f"{url}/v1/chat/completions", json=body)
        return answer.headers["x-bestserve-backend"] if answer.status_code == 200 else "shed"

    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
        tasks, due = [], time.monotonic()
        end = due + seconds
        while (due := due + dice.expovariate(rate)) < end:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(one(client)))
        return Counter(await asyncio.gather(*tasks))


def paid(url: str) -> float:
    text = urllib.request.urlopen(f"{url}/metrics", timeout=5).read().decode()
    return sum(float(value) for value in re.findall(r"^bestserve_spend_usd_total\{.*?\} (\S+)", text, re.MULTILINE))


def paid_by_records(folder: Path) -> float:
    records = [placed.entry for placed in read(files([folder]), lambda _: None)]
    return sum(entry.line().outcome.usd for entry in records if isinstance(entry, Kept))


def run(name: str, seconds: float, own: int, bought: int, folder: Path) -> list[dict[str, Any]]:
    """One variant at each of its loads."""
    price, cap, loads = VARIANTS[name]
    port, dice, rows, before = free_port(), random.Random(7), [], 0.0
    url = f"http://127.0.0.1:{port}"
    with started(
        "serve", "--config", str(config(folder, own, bought, price, cap)), "--port", str(port), ready="/health/readiness", port=port
    ):
        asyncio.run(load(url, 2.0, 2.0, dice))
        for times in loads:
            before = paid(url)
            who = asyncio.run(load(url, times * CAPACITY, seconds, dice))
            n, usd = who.total(), paid(url) - before
            rows.append(
                {
                    "variant": name,
                    "load": times,
                    "requests": n,
                    "usd": round(usd, 6),
                    **{k: round(who[k] / n, 3) for k in ("own", "paid", "shed")},
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        total = paid(url)
    by_records = paid_by_records(folder / "replay")
    print(json.dumps({"variant": name, "usd_by_metrics": round(total, 9), "usd_by_records": round(by_records, 9), "cap": cap}), flush=True)
    return rows


def draw(rows: list[dict[str, Any]], seconds: float, path: Path) -> None:
    """Load against shares, and against spend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    shares, spend = figure.subplots(1, 2)
    for name, colour in (("nothing to buy", "grey"), ("worth its price", "tab:blue"), ("too dear", "tab:orange")):
        here = [row for row in rows if row["variant"] == name]
        loads = [row["load"] for row in here]
        shares.plot(loads, [row["shed"] for row in here], color=colour, linestyle="--", marker=".", label=f"{name}: shed")
        if name != "nothing to buy":
            shares.plot(loads, [row["paid"] for row in here], color=colour, marker=".", label=f"{name}: bought")
            spend.plot(loads, [row["usd"] / seconds * 3600 for row in here], color=colour, marker=".", label=name)
    shares.set(xlabel="load, times the own server's capacity", ylabel="share of requests", ylim=(-0.02, 1))
    spend.set(xlabel="load, times the own server's capacity", ylabel="USD an hour")
    for axes in (shares, spend):
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Every variant, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each load")
    parser.add_argument("--plot", type=Path, help="where to draw it")
    args = parser.parse_args()
    own, bought, rows = free_port(), free_port(), []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        for port, profile, places in ((own, "own", PLACES), (bought, "provider", 256)):
            text = f'model = "m"\n{ENGINE}'.replace("kv_tokens", f"max_running = {places}\nkv_tokens")
            (folder / f"{profile}.toml").write_text(text)
            words = ("emulate", "--profile", str(folder / f"{profile}.toml"), "--port", str(port), "--model", "m", "--max-queued", "8")
            stack.enter_context(started(*words, ready="/ready", port=port))
        for variant in VARIANTS:
            home = folder / variant.replace(" ", "-").replace(",", "")
            home.mkdir()
            (home / "own.toml").write_text((folder / "own.toml").read_text())
            rows += run(variant, args.seconds, own, bought, home)
    if args.plot:
        draw(rows, args.seconds, args.plot)


if __name__ == "__main__":
    main()
