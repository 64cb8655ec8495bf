"""A fleet to simulate: which profiles, how many of each, which budgets and deadlines. Nothing of it is contacted.

    backends: [{name: small, profile: qwen3-1.7b-h100}, {name: large, profile: qwen3-32b-h100, count: 2}]
    budgets: [none, 384, 128]
    slo: {ttft_ms: 1000, tpot_ms: 60, kind: hard}

A config to serve with is a fleet, too: its backends, budgets and the deadlines of its default tier are taken.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictInt

from bestserve.policy.facts import SLO, Backend
from bestserve.policy.scene import Places

from .config import EMPTY, NO_CAP, Cap, Count, Kind, Maybe, Ms, Name, ProfileName, parse, relate, seconds, text_of
from .config_file import BadConfig, File
from .config_words import Section, validated

__all__ = ["BadConfig", "Fleet", "read"]

MOST = 64
"""Backends that a fleet may have."""


class Member(Section):
    """Some backends that are alike."""

    name: Name = Field(description="what it is called; more than one are called NAME-1, NAME-2 and so on")
    profile: ProfileName = Field(description="how fast and how good it is; a path starts at the fleet file")
    count: Annotated[StrictInt, Field(ge=1, le=MOST)] = Field(default=1, description="how many of them there are")
    max_in_flight: Maybe[Count] = Field(default=None, description="most requests at one of them at once")

    def backends(self) -> Iterator[Backend]:
        """Each of them."""
        for i in range(self.count):
            name = self.name if self.count == 1 else f"{self.name}-{i + 1}"
            yield Backend(name, self.profile.model, self.profile, self.profile.capabilities, self.max_in_flight)


class Deadlines(Section):
    """Deadlines of every answer; none does not bind."""

    ttft_ms: Maybe[Ms] = Field(default=1000.0, description="milliseconds to the first token")
    tpot_ms: Maybe[Ms] = Field(default=60.0, description="milliseconds per output token after the first")
    e2e_ms: Maybe[Ms] = Field(default=None, description="milliseconds for the whole answer")
    kind: Kind = Field(default="hard", description="hard: late is worth nothing; soft: worth decays")


class Written(Section):
    """The whole file."""

    backends: tuple[Member, ...] = Field(min_length=1, description="the fleet, at least one")
    budgets: tuple[Cap, ...] = Field(default=NO_CAP, min_length=1, description="caps on the answer that the policy may choose from")
    slo: Deadlines = Field(default=EMPTY, description="deadlines")


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated, and what it is held to."""

    places: Places
    slo: SLO


def read(environ: Mapping[str, str], path: Path | str) -> Fleet:
    """Read a fleet file, or a config to serve with. Raises BadConfig."""
    text, source = text_of(path), str(path)
    file = File(source, environ)
    tree = file.read(text)
    if any(loc[:1] == ("backends",) and loc[-1] == "url" for loc in file.places):
        config = parse(text, environ, source=source)
        return Fleet(Places(config.facts(), config.budgets), config.slo_for("default"))
    written = validated(Written, tree, file)
    relate(file, serves=False)
    if written is not None:
        _bounded(written, file)
    if written is None or file.problems:
        raise BadConfig(file.problems, source=source)
    slo = written.slo
    places = Places(tuple(_all(written)), written.budgets)
    return Fleet(places, SLO(seconds(slo.ttft_ms), seconds(slo.tpot_ms), seconds(slo.e2e_ms), hard=slo.kind == "hard"))


def _all(written: Written) -> Iterator[Backend]:
    for member in written.backends:
        yield from member.backends()


def _bounded(written: Written, file: File) -> None:
    """Note too many backends, and names that meet once they are counted out."""
    names = Counter(backend.name for backend in _all(written))
    if names.total() > MOST:
        file.wrong(("backends",), f"{names.total()} backends are more than the {MOST} that there may be")
    for name in (name for name, n in names.items() if n > 1):
        file.wrong(("backends",), f"{name!r} is the name of more than one")
