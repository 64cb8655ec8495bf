"""A config file as plain values, each with the line that it stands on, and its mistakes.

`${NAME}` is put in after YAML was parsed, so a variable can hold anything and change nothing else. A message repeats what
came from one only where it passes for a name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

Loc = tuple[int | str, ...]  # where a value stands, as pydantic has it: ("backends", 0, "model")

MAX_BYTES = 1_000_000  # of a config file
MAX_NODES = 20_000  # values in a file once its aliases are followed
MAX_DEPTH = 20

BROKEN = object()  # stands for a value that cannot be used; its problem is noted already

_YAML = "tag:yaml.org,2002:"
_TAGS = {_YAML + tag for tag in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")}
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOTHING = yaml.MappingNode(_YAML + "map", [], yaml.Mark("", 0, 0, 0, None, 0))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config file."""

    line: int | None  # None when it is the whole file
    key: str  # dotted, as in backends[0].model; "" for the whole file
    message: str


class BadConfig(ValueError):
    """A config file that cannot be used: every problem with its file, line and key, one a line."""

    def __init__(self, problems: Iterable[Problem], *, source: str) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        self.source = source
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for problem in self.problems:
            line = "" if problem.line is None else f":{problem.line}"
            key = f" {_printable(problem.key)}:" if problem.key else ""
            yield f"{self.source}{line}:{key} {_printable(problem.message)}"


def _printable(text: str) -> str:
    """On one line, and without what a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class Written(float):
    """A number with a point or an exponent, and how it was written, for where it is a text after all."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


class Entries(dict[str, Any]):
    """A mapping of the file, and the keys of the section that it was read as."""

    settings: Mapping[str, Any] = {}


class Place(NamedTuple):
    """What stands somewhere in the file."""

    line: int
    node: yaml.Node
    value: Any  # None, bool, int, Written, str, list, Entries or BROKEN


@dataclass(slots=True)
class File:
    """One config file, read. Raises BadConfig when it is not YAML, or too much of it."""

    source: str
    environ: Mapping[str, str]
    places: dict[Loc, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def read(self, text: str) -> Any:
        """The file's top value."""
        try:
            root = _composed(text)
            return self._value(root, line_of(root), ())
        except (yaml.YAMLError, OverflowError, UnicodeError) as error:
            raise BadConfig([_unreadable(error, text)], source=self.source) from error

    def wrong(self, loc: Loc, message: str) -> None:
        """Take note of a problem."""
        self.problems.append(Problem(self.places[self.known(loc)].line, dotted(loc), message))
        if loc in self.places:
            self.places[loc] = self.places[loc]._replace(value=BROKEN)

    def known(self, loc: Loc) -> Loc:
        """The innermost part of the file that is there and holds `loc`."""
        return loc if loc in self.places else self.known(loc[:-1])

    def settings(self, loc: Loc) -> Mapping[str, Any]:
        """The keys of the section around `loc`, as pydantic knows them."""
        return getattr(self.places[loc[:-1]].value, "settings", {})

    def texts(self, *where: Any) -> dict[Loc, str]:
        """The single values at all places of a form like ("backends", int, "name"); no value is `none`."""
        found = {loc: place.value for loc, place in self.places.items() if _fits(loc, where)}
        plain = {loc: value for loc, value in found.items() if isinstance(value, str | float | int | None)}
        return {loc: "none" if value in (None, "") else str(value) for loc, value in plain.items()}

    def _value(self, node: yaml.Node, line: int, loc: Loc) -> Any:
        # aliases are followed, so a few lines could stand for millions; one that holds itself, for endlessly many
        if len(loc) > MAX_DEPTH or len(self.places) >= MAX_NODES:
            raise OverflowError(f"holds more than {MAX_NODES:,} values or {MAX_DEPTH} levels once its aliases are followed")
        self.places[loc] = Place(line, node, BROKEN)
        try:
            self.places[loc] = Place(line, node, self._plain(node, loc))
        except ValueError as error:
            self.wrong(loc, str(error))
        return self.places[loc].value

    def _plain(self, node: yaml.Node, loc: Loc) -> Any:
        if node.tag not in _TAGS:
            raise ValueError(f"a tag like {node.tag} is not read")
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, line_of(item), (*loc, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return Entries({key.value: self._value(value, line_of(key), (*loc, key.value)) for key, value in self._pairs(node, loc)})
        return _scalar(node, self.environ)

    def _pairs(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(line_of(key), dotted(loc), f"a key must be a single word, is {shown(key)}"))
            elif key.value in first:
                told = f"written twice; first on line {first[key.value]}"
                self.problems.append(Problem(line_of(key), dotted((*loc, key.value)), told))
            else:
                first[key.value] = line_of(key)
                yield key, value


def dotted(loc: Loc) -> str:
    """As it stands in a message: backends[0].model."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def line_of(node: yaml.Node) -> int:
    """The line that a node begins on, from 1."""
    return int(node.start_mark.line) + 1


def shown(node: yaml.Node) -> str:
    """As it may stand in a message."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    return "what the environment holds" if "${" in node.value else repr(node.value) if node.value else "empty"


def _fits(loc: Loc, where: tuple[Any, ...]) -> bool:
    return len(loc) == len(where) and all(part == want or part.__class__ is want for part, want in zip(loc, where, strict=True))


def _composed(text: str) -> yaml.Node:
    if len(text) > MAX_BYTES:
        raise OverflowError(f"is longer than {MAX_BYTES:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):  # before anything is built, which recurses
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise OverflowError(f"is nested deeper than {MAX_DEPTH} levels")
    return yaml.compose(text, Loader=_Loader) or _NOTHING


def _unreadable(error: Exception, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Problem(None, "", str(error) if isinstance(error, OverflowError) else "is not YAML: a character that YAML does not allow")
    line = "".join(text.splitlines()[mark.line : mark.line + 1])
    hint = '; between braces or brackets a variable needs quotes: "${NAME}"' if "${" in line else ""
    return Problem(mark.line + 1, "", f"is not YAML: {getattr(error, 'problem', None)}{hint}")


def _scalar(node: yaml.Node, environ: Mapping[str, str]) -> bool | float | str | None:
    """A single value, with the environment put in. In quotes it is text, but for what is from the environment."""
    kind, text = node.tag.removeprefix(_YAML), _PLACEHOLDER.sub(lambda match: _filled(match, environ), node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return yaml.SafeLoader.bool_values.get(text.lower(), text)
    is_bare = kind != "str" or "${" in node.value
    if is_bare and _WHOLE.fullmatch(text):
        return int(text)
    return Written(text) if is_bare and _REAL.fullmatch(text) else text


_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_REAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def _filled(match: re.Match[str], environ: Mapping[str, str]) -> str:
    """`${NAME}` and `${NAME:-default}` put in, as in a shell; `$${` stands for the characters `${`."""
    if match[1] is None:
        return "${"
    variable = _VARIABLE.fullmatch(match[1])
    if variable is None or not match[0].endswith("}"):
        raise ValueError("a variable is written ${NAME} or ${NAME:-default}; write $${ for the characters themselves")
    name, default = variable.groups()
    found = environ.get(name) if default is None else environ.get(name) or default
    if found is None:
        raise ValueError(f"the environment has no variable {name}; set it or write ${{{name}:-default}}")
    return found
