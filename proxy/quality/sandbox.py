"""Runs code that a model wrote, in a process that can do nothing but compute (see jail.py), and tells what its calls gave.

Guarded against: endless loops, memory, output without end, new processes and threads, the network, signals, files of any kind, our
environment, claiming to have passed. Not guarded against: a hole in the kernel's allowed calls or in libseccomp.
Where libseccomp is missing (not Linux, or a very small image) nothing is run at all.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

JAIL = Path(__file__).with_name("jail.py")
CPU_S = 8
WALL_S = 12.0
MEMORY = 512 * 1024 * 1024  # bytes of address space; Python itself takes some 30 MB of it
MOST = 256 * 1024  # bytes that are read of what the process says


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a run: the value of each call, or why there is none."""

    values: tuple[Any, ...]  # one for each call; an Error where it failed
    why: str | None = None  # why there are no values at all, or why the code did not run to its end


@dataclass(frozen=True, slots=True)
class Error:
    """A call that gave no value: the name of what it raised."""

    name: str


def run(code: str, calls: Sequence[str], *, wall_s: float = WALL_S) -> Ran:
    """Run the code and evaluate each call after it, in a fresh process that is gone when this returns."""
    asked = json.dumps({"code": code, "calls": list(calls), "cpu_s": CPU_S, "memory": MEMORY}).encode()
    with tempfile.TemporaryDirectory(prefix="bestserve-") as empty:
        return _read(*_said(asked, empty, wall_s), n=len(calls))


@lru_cache(maxsize=1)
def lack() -> str | None:
    """Why code cannot be run here, or None when it can: it computes, and it is refused a file."""
    if not sys.platform.startswith("linux"):
        return "generated code is run on Linux only, where seccomp confines it"
    ran = run("x = 6", ["x * 7", "open('/dev/null')"])
    is_closed = ran.values == (42, Error("PermissionError"))
    return None if is_closed else "generated code is not run here: libseccomp.so.2 or the kernel's seccomp is missing"


def _said(asked: bytes, folder: str, wall_s: float) -> tuple[bytes, bool]:
    """What the process wrote, up to MOST bytes, and whether its time was up."""
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(JAIL)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603  our own interpreter and file
        command, cwd=folder, env={}, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    alarm = threading.Timer(wall_s, end)
    alarm.start()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(asked)
            process.stdin.close()
        return process.stdout.read(MOST + 1), late.is_set()
    finally:
        alarm.cancel()
        _kill(process)
        process.wait()
        with process.stdout, suppress(BrokenPipeError):
            process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(said: bytes, late: bool, *, n: int) -> Ran:
    """Take the results out of what was said. The sender is not trusted: whatever is not of the right shape is no result."""
    if late:
        return Ran((), "its time was up")
    try:
        told = json.loads(said)
        results = [Error(str(r["error"])) if "error" in r else r["value"] for r in told["results"]]
        failed = told.get("failed")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Ran((), "it ended without a result")
    if len(results) != n:
        return Ran((), "it ended without a result")
    return Ran(tuple(results), None if failed is None else str(failed))
