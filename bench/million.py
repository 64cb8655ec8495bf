"""A million: how long `bestserve retrain` takes on a long log, and how much memory its processes have together.

    python bench/million.py                     # a million records; --json for programs

A log is written by simulation into a folder of its own: stretches of 50,000 requests one after another, by the bid-price policy over the
three sizes of Qwen3 on unpredictable load (3 % exploration, of 20 % of the answers somebody says whether it was good), in segments that are
packed as a proxy packs them. Then the command itself runs on it as a child, pinned to some cores. `--log DIR` keeps the log, or takes it up
again if it is there; `--cores` says how many cores there are, and so how many processes it takes.

Time is told as it passed, and as the cores worked: the first process by itself, then the others, which work side by side. Where neighbours
take the cores, what passed says little, and the first's time and the others' by the number of cores say what it would be without them.
Memory is what was most, four times a second, of the sum over the child and its children of their proportional shares (PSS: a page that
three processes share counts a third for each); it is read from /proc, so this needs Linux.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bestserve.policy.learn.recording import recorded
from bestserve.policy.scene import mind_of
from bestserve.policy.simulate import Setting
from bestserve.policy.workload import Demand, draw_trace, unpredictable
from bestserve.proxy import simulated_log
from bestserve.proxy.fleet_file import read
from bestserve.proxy.segments import pack, segments

ROOT = Path(__file__).parent.parent
FLEET = ROOT / "bench" / "fleets" / "qwen3.yaml"
LOW, HIGH, DWELL_S = 5.0, 120.0, 20.0
RATE = (HIGH - LOW) / math.log(HIGH / LOW)
EXPLORE, FEEDBACK, STRETCH = 0.03, 0.2, 50_000
WALL = 1_790_000_000.0
CONFIG = """
backends:
  - {name: small, url: "http://127.0.0.1:1", model: Qwen/Qwen3-1.7B, profile: qwen3-1.7b-h100}
  - {name: medium, url: "http://127.0.0.1:2", model: Qwen/Qwen3-8B, profile: qwen3-8b-h100}
  - {name: large, url: "http://127.0.0.1:3", model: Qwen/Qwen3-32B, profile: qwen3-32b-h100}
budgets: [none, 1024, {tokens: 384, instruction: "Answer in at most 200 words."}, 128]
slo: {ttft_ms: 1000, tpot_ms: 60, kind: hard}
policy: {checkpoint: published, fallback: bid-price, dir: ./policies, explore: 0.03}
replay: {dir: ./replay}
"""


# --- the log ----------------------------------------------------------------------------------------------------------


def written(folder: Path, n: int, jobs: int) -> None:
    """About n records."""
    stretches = math.ceil(n / STRETCH)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(stretch, folder, n / stretches), range(stretches)))


def stretch(folder: Path, n: float, number: int) -> None:
    """One stretch, after those before it."""
    fleet, dice = read({}, FLEET), np.random.default_rng(number)
    seconds = n / RATE
    trace = draw_trace(dice, unpredictable(LOW, HIGH, DWELL_S), seconds, Demand(slos=((1.0, fleet.slo),)))
    log = recorded(fleet.places, trace, mind_of("bid-price", fleet.places), seed=number, setting=Setting(explore=EXPLORE))
    wall, own = WALL + number * (seconds + 600.0), folder / f"stretch-{number}"
    simulated_log.write(own, log, wall=wall, policy="bid-price", name=f"s{number}", feedback=FEEDBACK, dice=dice)
    for segment in segments(own):
        packed = pack(segment.path, "gzip")
        packed.rename(folder / packed.name)
    own.rmdir()


# --- the command ------------------------------------------------------------------------------------------------------


def measured(config: Path, cores: int, more: list[str]) -> dict[str, Any]:
    """One retraining: what it said, what it took, and what it had."""
    command = [sys.executable, "-m", "bestserve.proxy", "retrain", "--config", str(config), "--dry-run", "--json", *more]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    begun, before = time.monotonic(), os.times()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    watch = Watch(child.pid)
    watch.start()
    out, _ = child.communicate()
    took, after = time.monotonic() - begun, os.times()
    watch.join()
    if child.returncode:
        raise SystemExit(child.returncode)
    worked = after.children_user + after.children_system - before.children_user - before.children_system
    shared = {"first": watch.worked, "others": worked - watch.worked, "quiet": watch.worked + (worked - watch.worked) / cores}
    return {"seconds": took, "cpu_seconds": shared, "most_bytes": watch.most, "said": json.loads(out)}


class Watch(threading.Thread):
    """Looks at a process and its children as long as it lives."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most = 0  # bytes of all of them
        self.worked = 0.0  # seconds of the process itself
        self._pid = pid

    def run(self) -> None:
        """Four times a second."""
        while (now := sum(map(pss, family(self._pid)))) > 0:
            self.most, self.worked = max(self.most, now), max(self.worked, cpu(self._pid))
            time.sleep(0.25)


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        children = []
    return [pid, *(each for child in children for each in family(child))]


def pss(pid: int) -> int:
    """Its share of memory in bytes; 0 when it is gone."""
    try:
        found = [line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")]
    except OSError:
        return 0
    return int(found[0].split()[1]) * 1024 if found else 0


def cpu(pid: int) -> float:
    """Seconds of a core that it has had; 0 when it is gone."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Write, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--log", type=Path, help="where the log is written, or stands already")
    parser.add_argument("--json", action="store_true")
    said, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as own:
        home = said.log or Path(own)
        folder = home / "replay"
        if not folder.exists():
            folder.mkdir(parents=True)
            written(folder, said.records, said.cores)
        (home / "config.yaml").write_text(CONFIG, encoding="utf-8")
        found = measured(home / "config.yaml", said.cores, more)
        found["log_bytes"] = sum(segment.path.stat().st_size for segment in segments(folder))
    if said.json:
        json.dump(found, sys.stdout, indent=1)
        return
    told, shared = found["said"], found["cpu_seconds"]
    print(f"{told['attempts']:,} attempts in {found['log_bytes'] / 1e6:,.0f} MB of packed segments, {said.cores} cores")
    print(f"  {found['seconds']:.0f} s passed, {shared['quiet']:.0f} s where nobody else works", end="")
    print(f" (the first process worked {shared['first']:.0f} s, the others {shared['others']:.0f} s)")
    print(f"  at most {found['most_bytes'] / 1e9:.2f} GB")
    print(f"  {told['mismatches']} mismatches; {told['verdict']['decision']}: {told['verdict']['why']}")


if __name__ == "__main__":
    main()
