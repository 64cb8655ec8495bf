"""Facts about backends: TOML files and the frozen type they parse into. The only file of this room that reads."""

import tomllib
from difflib import get_close_matches
from pathlib import Path

from .schema import TASKS, Answers, BadProfile, BudgetEffect, Engine, Profile, Source, parse

__all__ = ["TASKS", "Answers", "BadProfile", "BudgetEffect", "Engine", "Profile", "Source", "find", "load", "names", "parse"]

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of the profiles that ship with the package, sorted."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def load(name_or_path: str | Path) -> Profile:
    """Load a shipped profile by its name, or any profile by its path. Raises BadProfile."""
    path = find(name_or_path)
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")), name=path.stem)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, BadProfile) as error:
        raise BadProfile(f"{path.name}: {error}") from error


def find(name_or_path: str | Path) -> Path:
    """The file of a shipped profile, by its name, or the path that is given. Raises BadProfile."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return path
    path = _HERE / f"{name_or_path}.toml"
    if not path.is_file():
        raise BadProfile(f"profile {str(name_or_path)!r} is not shipped and is not a path to a .toml file; {_near(str(name_or_path))}")
    return path


def _near(name: str) -> str:
    """The shipped name that was likely meant, and where all of them are told."""
    close = get_close_matches(name, names(), n=1)
    return (f"did you mean {close[0]}? " if close else "") + "`bestserve profiles` lists what ships"
