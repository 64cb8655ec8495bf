"""openai-python's own tests against the demo: `make sdk-suite`.

The tests come in the SDK's source distribution. Of its tests of resources those run that create,
list and retrieve what this proxy offers: chat completions, completions, embeddings and models. Those of deleting a model and of stored
chat completions ask for an API that it does not have.
"""

import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache" / "sdk_suite"
RELEASE = "3.54.0"  # whatever is installed beside it: LiteLLM holds the SDK of an older major version
PORT = 8976
FILES = ("chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py")
WANTED = "create or (test_models and (retrieve or list))"
READY_S = 60


def main() -> int:
    """Fetch the tests, start the demo, run them. Returns pytest's exit code."""
    suite, python = fetched(RELEASE), environment(RELEASE)
    demo = [sys.executable, "-m", "bestserve.proxy", "demo", "--port", str(PORT), "--load", "0", "--time-scale", "0.05"]
    process = subprocess.Popen(demo)
    try:
        wait_until_up(f"http://127.0.0.1:{PORT}/health/readiness")
        tests = [f"tests/api_resources/{name}" for name in FILES]
        pytest = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", WANTED, *tests, *sys.argv[1:]]
        environ = ["env", f"TEST_API_BASE_URL=http://127.0.0.1:{PORT}/v1"]
        return subprocess.run([*environ, *pytest], cwd=suite, check=False).returncode
    finally:
        process.terminate()
        process.wait()


def fetched(release: str) -> Path:
    """The folder of a release's source distribution, fetched once."""
    folder = CACHE / f"openai-{release}"
    if not (folder / "tests").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "openai",
            f"openai=={release}",
            "-d",
            str(CACHE),
        ]
        subprocess.run(pip, check=True)
        with tarfile.open(CACHE / f"openai-{release}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder


def environment(release: str) -> Path:
    """The interpreter of an environment with what those tests need: some of it would change how our own run."""
    python = CACHE / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
    wants = ["-r", str(HERE / "requirements.txt"), f"openai=={release}"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wants], check=True)
    return python


def wait_until_up(url: str) -> None:
    """Until every backend of the demo is up."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                if b"false" not in reply.read():
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"the demo was not ready within {READY_S} s")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
