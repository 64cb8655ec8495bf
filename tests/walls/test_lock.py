"""What the image installs is pinned with hashes, is what pyproject asks for, and is no more than serving needs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = ("upload", "zstd")  # a config can ask for them, and nobody can install into an image
HEAVY = {"torch", "litellm", "sglang", "numba", "scipy", "matplotlib", "openai"}


def serving() -> list[str]:
    project = PROJECT["project"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]


def pins(name: str) -> dict[str, list[str]]:
    """The versions of each package in a lock: more than one where Pythons need different ones. Each with at least one hash."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        package, version, rest = re.fullmatch(r"([\w.-]+)==(\S+)(.*)", line).groups()
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", rest), f"{package} has no hash"
        found.setdefault(canonicalize_name(package), []).append(version)
    return found


@pytest.mark.parametrize(("lock", "wanted"), [("serve.lock", serving()), ("build.lock", PROJECT["build-system"]["requires"])])
def test_the_lock_holds_what_is_asked_for(lock, wanted):
    """Each dependency is there in a version that pyproject allows; when it is not, `make lock` is due."""
    pinned = pins(lock)
    for requirement in map(Requirement, wanted):
        versions = pinned[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement} against {versions}: run make lock"


def test_the_lock_is_small():
    """Nothing that belongs to another extra came in behind a dependency."""
    assert not HEAVY & pins("serve.lock").keys()


@pytest.mark.parametrize("lock", ["serve.lock", "build.lock"])
def test_the_lock_names_no_place(lock):
    """Hashes say what is installed; from where is the business of whoever installs."""
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-[-\w]*(index|find-links)", text, re.MULTILINE)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lock", ["serve.lock", "build.lock"])
def test_the_lock_can_be_installed(lock):
    """Complete, as wheels, with these hashes: pip refuses a package behind a dependency that the lock leaves out."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--require-hashes", "--only-binary", ":all:"]
    said = subprocess.run(
        [*pip, "--disable-pip-version-check", "-r", str(ROOT / "requirements" / lock)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
