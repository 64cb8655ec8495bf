"""Real processes: emulated backends and the proxy, started by the command line and ended by signals."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import orjson


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_for(url: str, *, seconds: float = 20.0) -> None:
    """Until a URL answers 200."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                if reply.status == 200:
                    return
        except urllib.error.HTTPError as error:  # answered, but not yet 200; it holds a connection
            error.close()
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"{url} did not answer 200 within {seconds} s")
        time.sleep(0.05)


def get(url: str) -> dict:
    """A JSON document, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return orjson.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return orjson.loads(error.read())


class Clients:
    """Threads that ask one request after another, until they are told to stop. What one asks, and what it notes, is its `_run`'s."""

    def __init__(self, base: str, n: int = 6) -> None:
        self.base, self.done = base, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(n)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        raise NotImplementedError


@contextlib.contextmanager
def bestserve(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A `bestserve` process in a group of its own; killed with its children at the end, if it still lives."""
    command = [sys.executable, "-m", "bestserve.proxy", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def emulated(profile: str = "qwen3-1.7b-h100", **options: object) -> Iterator[str]:
    """An emulated backend: its URL. An option that is True is a flag."""
    port = free_port()
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))]
    with bestserve("emulate", "--profile", profile, "--port", str(port), *words):
        wait_for(f"http://127.0.0.1:{port}/ready")
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def serving(config: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The proxy for a config file: process and URL, once a backend is up."""
    port = free_port()
    with bestserve("serve", "--config", str(config), "--port", str(port), *words) as process:
        wait_for(f"http://127.0.0.1:{port}/health/readiness")
        yield process, f"http://127.0.0.1:{port}"


def config_file(folder: Path, backends: dict[str, str], *, profile: str = "qwen3-1.7b-h100", more: str = "") -> Path:
    """A config file for backends by name and URL."""
    rows = "\n".join(f"  - {{name: {name}, url: '{url}', model: Qwen/Qwen3-1.7B, profile: {profile}}}" for name, url in backends.items())
    path = folder / "bestserve.yaml"
    path.write_text(f"backends:\n{rows}\n{more}\n", encoding="utf-8")
    return path
