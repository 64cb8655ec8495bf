"""How a number stands in a profile: bare, or as a table with its source; and what is said of one that cannot be used.

A `Reader` walks one table of the parsed TOML. It knows the dotted path at which it stands, so that every refusal names the key, and
keeps the sources that it meets under that path.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

HOWS = ("measured", "fitted", "published", "interpolated", "assumed")


class BadProfile(ValueError):
    """A profile that cannot be used; the message names the key and, for an unknown key, the nearest right one."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one number comes from."""

    source: str  # the publication, or the command that measured it
    how: str  # one of HOWS
    error: float | None = None  # relative one-sigma error, where known


@dataclass(frozen=True, slots=True)
class Reader:
    """One table of a profile, the path to it ("engine.", or "" at the top), the sources met so far, and long ones by a short name."""

    table: Mapping[str, Any]
    path: str = ""
    sources: dict[str, Source] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.table

    def only(self, names: Iterable[str]) -> "Reader":
        """Refuse a key that is none of `names`."""
        known = tuple(names)
        for key in self.table:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                raise BadProfile(f"{self.path}{key}: unknown key" + (f"; did you mean {self.path}{near[0]}?" if near else ""))
        return self

    def at(self, key: str, *, optional: bool = False) -> "Reader":
        """The table under a key; an optional one that is left out is empty."""
        value = self.table.get(key, {} if optional else None)
        if not isinstance(value, Mapping):
            raise BadProfile(f"{self.path}{key}: must be a table")
        return Reader(value, f"{self.path}{key}.", self.sources, self.references)

    def text(self, key: str) -> str:
        value = self.table.get(key)
        if not isinstance(value, str) or not value:
            raise BadProfile(f"{self.path}{key}: must be a text that is not empty")
        return value

    def texts(self, key: str) -> frozenset[str]:
        """A list of texts, empty when left out; a bare text is refused, for its letters would pass as a list."""
        value = self.table.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            raise BadProfile(f"{self.path}{key}: must be a list of texts, is {value!r}")
        return frozenset(value)

    def number(self, key: str) -> float:
        """A number >= 0, bare or as a table with its source."""
        path = self.path + key
        if key not in self.table:
            raise BadProfile(f"{path}: is missing")
        raw = self.table[key]
        if isinstance(raw, Mapping):
            inner = self.at(key).only(("value", "source", "how", "error"))
            if "value" not in inner:
                raise BadProfile(f"{path}.value: is missing")
            inner.keep_source()
            raw = raw["value"]
        return _at_least_0(raw, path)

    def positive(self, key: str) -> float:
        value = self.number(key)
        if value <= 0:
            raise BadProfile(f"{self.path}{key}: must be greater than 0, is {value}")
        return value

    def share(self, key: str) -> float:
        """A number in [0, 1]."""
        value = self.number(key)
        if value > 1:
            raise BadProfile(f"{self.path}{key}: must be in [0, 1], is {value}")
        return value

    def whole(self, key: str, *, least: int = 1) -> int:
        value = self.number(key) if least == 0 else self.positive(key)
        if not value.is_integer():
            raise BadProfile(f"{self.path}{key}: must be a whole number, is {value}")
        return int(value)

    def keep_source(self) -> None:
        """Keep what this table says of where its numbers come from: `source`, `how`, and `error` where it is known."""
        how = self.table.get("how")
        if how not in HOWS:
            raise BadProfile(f"{self.path}how: must be one of {', '.join(HOWS)}, is {how!r}")
        error = _at_least_0(self.table["error"], self.path + "error") if "error" in self else None
        text = self.text("source")
        self.sources[self.path.removesuffix(".")] = Source(source=self.references.get(text, text), how=str(how), error=error)


def _at_least_0(raw: object, path: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw < float("inf"):
        raise BadProfile(f"{path}: must be a number of at least 0, is {raw!r}")
    return float(raw)
