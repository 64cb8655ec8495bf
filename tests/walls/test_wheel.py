"""What is shipped, and not the desk it was made on: the wheel in a clean environment, run from another folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.with_compiler import needs_compiler

ROOT = Path(__file__).parent.parent.parent


def built(folder: Path, **environ: str) -> Path:
    """A wheel of the checkout."""
    source = folder / "source"  # a copy: what an earlier build left in the checkout must not travel along
    for room in ("proxy", "policy", "profiles"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=300, env=os.environ | environ)  # noqa: TID251  the test's own
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel and what serving needs."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = built(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True, timeout=300)
    pip = [str(folder / "env/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, timeout=600)
    return folder / "env" / "bin"


def run(installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}  # noqa: TID251  the test's own
    return subprocess.run(
        [str(installed / command[0]), *command[1:]], capture_output=True, text=True, cwd="/", env=environ, timeout=60, check=False
    )


@pytest.mark.timeout(900)
def test_the_command_runs_from_another_folder(installed):
    """`bestserve --help` works where the checkout is not."""
    said = run(installed, "bestserve", "--help")
    assert said.returncode == 0, said.stderr
    assert "serve" in said.stdout


def test_profiles_are_in_the_wheel(installed):
    """Data files travel with the code, and nothing of the checkout is on the path."""
    code = (
        "import bestserve.profiles as p, bestserve.proxy as x\n"
        "p.load('qwen3-8b-h100')\n"
        "print(len(p.names()), 'site-packages' in x.__file__)"
    )
    said = run(installed, "python", "-c", code)
    assert said.returncode == 0, said.stderr
    count, inside = said.stdout.split()
    assert int(count) >= 6
    assert inside == "True"


def test_a_wrong_config_is_told_without_a_trace(installed, tmp_path):
    """The file, the line, the key and the nearest right one; exit code 1."""
    config = tmp_path / "bestserve.yaml"
    config.write_text("backends:\n  - {name: a, url: http://127.0.0.1:1, modle: m, profile: qwen3-8b-h100}\n")
    said = run(installed, "bestserve", "check", "--config", str(config))
    assert said.returncode == 1
    assert f"{config}:2" in said.stderr
    assert "modle" in said.stderr
    assert "model" in said.stderr
    assert "Traceback" not in said.stderr


LEARNS = ("__main__", ".proxy.training", ".proxy.retraining", ".proxy.simulated_log")
"""What needs the extra `train` as soon as it is imported."""


def test_every_module_imports_without_the_extras(installed):
    """What serving needs is all that a plain install has, and it is enough for all but what learns."""
    code = (
        "import pkgutil, importlib, bestserve.proxy, bestserve.policy, bestserve.profiles\n"
        "for room in (bestserve.proxy, bestserve.policy, bestserve.profiles):\n"
        "    for m in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        f"        m.name.endswith({LEARNS}) or '.policy.learn.' in m.name or importlib.import_module(m.name)\n"
    )
    said = run(installed, "python", "-c", code)
    assert said.returncode == 0, said.stderr


def test_a_verb_of_an_extra_says_which(installed, tmp_path):
    """Its prompts are in the wheel, its libraries are not, and it says what to install."""
    code = "import bestserve.proxy.quality.prompts as p\nprint(sum(len(f.read_text().splitlines()) for f in p.SETS.glob('*.jsonl')))"
    assert int(run(installed, "python", "-c", code).stdout) >= 250

    said = run(installed, "bestserve", "quality", "--url", "http://127.0.0.1:1", "--model", "m", "--answers", str(tmp_path / "a.jsonl"))
    assert said.returncode == 1
    assert "pip install 'bestserve[quality]'" in said.stderr
    assert "Traceback" not in said.stderr


READS = """
from bestserve.policy import actor
from bestserve.policy.features import Prompt
from bestserve.proxy.weights import shipped
print(actor.Compiled is not None, shipped().compiled, shipped().guess(Prompt.of("Translate to French: good morning")).name)
"""


@needs_compiler
def test_a_compiler_compiles(installed):
    """Where one is, compiled code reads prompts and decides."""
    assert run(installed, "python", "-c", READS).stdout.split() == ["True", "True", "translate"]


@pytest.mark.timeout(400)
def test_without_a_compiler_it_is_built_all_the_same(tmp_path):
    """Plain Python does it then, and says the same."""
    wheel = built(tmp_path, CC="/nonexistent/cc")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert not list((tmp_path / "site").rglob("*.so"))

    said = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]\n{READS}"],
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )
    assert said.stdout.split() == ["False", "False", "translate"], said.stderr
