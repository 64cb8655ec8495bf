"""Real SGLang servers for the tests, and for measure.py and profiling.py.

    with sglang(31001, "--max-running-requests", "4") as server:
        httpx.get(server.url + "/v1/loads")

One server is three processes and about 3 GB. It leads a process group, by which it is ended, and should we be killed
before that, serve.py ends with us: nothing is left however a test ends. Its output goes to `.real/log/PORT.log`.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
REAL = HERE.parents[1] / ".real"
PYTHON = REAL / "venv" / "bin" / "python"
MODEL = REAL / "model"
READY_WITHIN_S = 180.0

OPTIONS = {
    "--model-path": str(MODEL),
    "--served-model-name": "smollm2",
    "--device": "cpu",
    "--attention-backend": "torch_native",
    "--host": "127.0.0.1",
    "--max-running-requests": "16",
    "--max-total-tokens": "20000",
    "--load-snapshot-publish-interval": "1",  # /v1/loads follows each step; the default is a second behind
    "--decode-log-interval": "1",  # and so does /metrics
}


class NotInstalled(RuntimeError):
    """There is no `.real`; the message says how to get one."""

    def __init__(self) -> None:
        super().__init__("no real SGLang here: run `make real`, or `python3 tests/real/install.py`, first")


def is_installed() -> bool:
    return PYTHON.exists() and (MODEL / "config.json").exists()


class Server:
    """One SGLang server on a port of this machine, started when it is made; may be killed and started again."""

    def __init__(self, port: int, *extra_args: str) -> None:
        if not is_installed():
            raise NotInstalled
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = REAL / "log" / f"{port}.log"
        self.extra_args = extra_args
        self.start()

    def start(self) -> None:
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-W", "ignore", HERE / "serve.py", "--port", str(self.port), *self.options()],
                env=one_thread(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def options(self) -> list[str]:
        """Ours, but for those that the caller gives as well; metrics and an idle scheduler that sleeps are always on, and steps do not
        overlap: on a CPU to launch a step is to run it, so that overlapping wins nothing and tells every token one step late."""
        ours = [word for name, value in OPTIONS.items() if name not in self.extra_args for word in (name, value)]
        return [*ours, "--enable-metrics", "--sleep-on-idle", "--disable-overlap-schedule", *self.extra_args]

    def wait_until_ready(self, within_s: float = READY_WITHIN_S) -> None:
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"SGLang on port {self.port} ended with {self.process.returncode}:\n{self.tail()}")
            with suppress(httpx.TransportError):
                if httpx.get(self.url + "/ready", timeout=5).status_code == 200:
                    return
            time.sleep(0.5)
        self.kill()
        raise TimeoutError(f"SGLang on port {self.port} was not ready after {within_s:.0f} s:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def load(self) -> dict[str, int]:
        """What the server itself says it is doing: requests running and waiting. One whose prompt is being read is neither."""
        told = httpx.get(self.url + "/v1/loads", timeout=20).json()["loads"][0]
        return {"running": told["num_running_reqs"], "waiting": told["num_waiting_reqs"]}

    def aborted(self) -> float:
        """How many requests the server has given up since it started, most of them because the client left."""
        lines = httpx.get(self.url + "/metrics", timeout=20).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("sglang:num_aborted_requests_total"))

    def kill(self) -> None:
        """End every process of the server at once, as a machine that loses power would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def sglang(port: int, *extra_args: str) -> Iterator[Server]:
    """One server, ready; gone with everything it started when the block ends."""
    with fleet((port, extra_args)) as (server,):
        yield server


@contextmanager
def fleet(*wanted: tuple[int, Sequence[str]]) -> Iterator[list[Server]]:
    """Several servers, started side by side."""
    servers: list[Server] = []
    try:
        for port, extra_args in wanted:
            servers.append(Server(port, *extra_args))
        for server in servers:
            server.wait_until_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()


def comes_true(question: Callable[[], bool], within_s: float) -> bool:
    """Ask again and again until the answer is yes or the time is over."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if question():
            return True
        time.sleep(0.1)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one_thread() -> dict[str, str]:
    """This process's environment, with one core's worth of threads, so that two servers share two cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # noqa: TID251  handed on, not read
