"""The walls of the house: what may import what, and what a plain install must not pull in."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("proxy", "policy", "profiles")
BARE = re.compile(r"^\s*(?:from|import)\s+(?:proxy|policy|profiles)\b", re.MULTILINE)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> list[Path]:
    return [path for room in (*ROOMS, "tests", "bench") for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_imports_the_bare_folders(path):
    """`import policy` works by accident in a checkout and nowhere else."""
    assert not BARE.search(path.read_text(encoding="utf-8"))


def test_every_package_is_listed():
    """A folder that is not listed imports in a checkout and is absent from the wheel."""
    listed = set(pyproject()["tool"]["setuptools"]["packages"])
    found = {f"bestserve.{'.'.join(i.parent.relative_to(ROOT).parts)}" for room in ROOMS for i in (ROOT / room).rglob("__init__.py")}
    assert listed == found


def test_serving_loads_nothing_heavy():
    """The app imports without torch, litellm, sglang, or anything that only the command line needs."""
    code = (
        "import sys, bestserve.proxy.app\n"
        "print([m for m in ('torch', 'litellm', 'sglang', 'scipy', 'openai', 'httpx', 'aiohttp', 'rich') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(("engine", "loaded"), [("openai", []), ("litellm", ["litellm"])])
def test_litellm_is_loaded_for_a_config_that_names_it_and_for_no_other(engine, loaded, tmp_path):
    """Reading the config and building the proxy is all that happens before the first request."""
    where = "" if loaded else ", url: 'http://h', profile: smollm2-135m-cpu"
    row = f"{{name: b, engine: {engine}, model: openai/gpt-4o{where}}}"
    script = (
        "import sys; from bestserve.proxy.app import build; from bestserve.proxy.config import parse;"
        f'build(parse("""backends: [{row}]""", {{}}, source="x.yaml")); print([m for m in ("litellm",) if m in sys.modules])'
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said.strip() == str(loaded)


def test_the_serving_install_is_small():
    """Nothing that belongs to an extra is a plain dependency, and the malicious litellm releases are excluded."""
    project = pyproject()["project"]
    plain = " ".join(project["dependencies"])
    for heavy in ("torch", "litellm", "sglang", "scipy", "openai"):
        assert heavy not in plain
    providers = " ".join(project["optional-dependencies"]["providers"])
    for excluded in ("!=1.82.7", "!=1.82.8", ">=1.84"):
        assert excluded in providers


def test_importing_does_nothing():
    """No module starts a thread, opens a file to write, or reads a config when it is imported."""
    code = (
        "import threading, pkgutil, importlib, sys\n"
        "import bestserve.proxy, bestserve.policy, bestserve.profiles\n"
        "for room in (bestserve.proxy, bestserve.policy, bestserve.profiles):\n"
        "    for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "print(threading.active_count())"
    )
    said = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert said.stderr == ""
    assert said.stdout.strip() == "1"


def test_the_readme_names_only_what_exists():
    """Every make target and every verb that the README shows is there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    verbs = set(re.findall(r"^## bestserve ([a-z-]+)", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    blocks = "\n".join(re.findall(r"```(?:sh|bash|console)\n(.*?)```", readme, re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z-]+)", blocks)) <= targets
    assert set(re.findall(r"\bbestserve (?!\.)([a-z]+)", blocks)) - {"serve"} <= verbs
    for path in re.findall(r"\]\(((?!http)[^)#]+)", readme):
        assert (ROOT / path).exists(), path
