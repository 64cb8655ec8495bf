"""A real fleet for the tests here: two SGLang servers on this machine's CPU, and the proxy as its own process before them.

These tests take minutes and gigabytes, so they run only when asked for: `make real`, `-m real`, or this folder's path on
the command line. Otherwise pytest counts them as deselected; asked for without `.real`, it stops and says what to run.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import openai
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import backend  # noqa: E402

SMALL = ("--served-model-name", "smollm2", "--max-running-requests", "4", "--max-queued-requests", "3")
LARGE = ("--served-model-name", "smollm2-large")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_asked_for(config):
        return
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    config.hook.pytest_deselected(items=ours)
    items[:] = [item for item in items if item not in ours]


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = any(item.path.is_relative_to(HERE) for item in session.items)
    if ours and not session.config.option.collectonly and not backend.is_installed():
        raise pytest.UsageError(str(backend.NotInstalled()))


def is_asked_for(config: pytest.Config) -> bool:
    """Whether `-m` names the marker, or a path on the command line lies in this folder."""
    paths = [Path(config.invocation_params.dir, arg.partition("::")[0]).resolve() for arg in config.args]
    return "real" in config.option.markexpr or any(path.is_relative_to(HERE) for path in paths)


class Proxy:
    """`python -m bestserve.proxy serve` on a port of its own."""

    def __init__(self, config: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = backend.REAL / "log" / f"proxy-{port}.log"
        command = [sys.executable, "-m", "bestserve.proxy", "serve", "--config", str(config), "--port", str(port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 40
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(self.url + "/health/readiness", timeout=5).status_code == 200:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the proxy did not become ready:\n{self.log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> int:
        """Ask it to end, and insist after a while; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def running_proxy(config: Path) -> Iterator[Proxy]:
    proxy = Proxy(config, backend.free_port())
    try:
        proxy.wait_until_ready()
        yield proxy
    finally:
        proxy.stop()


@pytest.fixture(scope="session")
def servers() -> Iterator[list[backend.Server]]:
    with backend.fleet((backend.free_port(), SMALL), (backend.free_port(), LARGE)) as servers:
        yield servers


@pytest.fixture(scope="session")
def small(servers: list[backend.Server]) -> backend.Server:
    """Four run and three wait; the eighth is refused."""
    return servers[0]


@pytest.fixture(scope="session")
def large(servers: list[backend.Server]) -> backend.Server:
    """Sixteen run; any number may wait."""
    return servers[1]


@pytest.fixture(scope="session")
def config(small: backend.Server, large: backend.Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    profile = "smollm2-135m-cpu"
    path = tmp_path_factory.mktemp("real") / "bestserve.yaml"
    told = {
        "listen": {"host": "127.0.0.1", "port": 8000},
        "backends": [
            {"name": "small", "url": small.url, "model": "smollm2", "profile": profile},
            {"name": "large", "url": large.url, "model": "smollm2-large", "profile": profile},
        ],
        "models": {"auto": ["small", "large"]},
        "slo": {"ttft_ms": 20000, "tpot_ms": 2000},
        "policy": {"checkpoint": "none", "fallback": "deadline-greedy", "dir": str(path.with_name("policies"))},
        "replay": {"dir": str(path.with_name("replay"))},
    }
    path.write_text(json.dumps(told, indent=2))  # JSON is YAML
    return path


@pytest.fixture(scope="session")
def proxy(config: Path) -> Iterator[Proxy]:
    with running_proxy(config) as proxy:
        yield proxy


@pytest.fixture
def another_proxy(config: Path) -> Iterator[Proxy]:
    """A proxy that the test may end."""
    with running_proxy(config) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    """The official SDK, told to try once."""
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0, timeout=90) as client:
        yield client


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx.Client]:
    """A bare client, for what no SDK would send."""
    with httpx.Client(base_url=proxy.url, timeout=90) as http:
        yield http


@pytest.fixture
def all_free(servers: list[backend.Server]) -> Callable[[float], bool]:
    """Whether both servers say, before so many seconds are over, that they run and hold nothing."""
    return lambda within_s: backend.comes_true(lambda: not any(sum(server.load().values()) for server in servers), within_s)
