"""How a config file is read: YAML nodes, which know their lines, against rules, which know what is wrong.

A rule reads one node. Rules of parts (`Rows`, `Table`, `Section`) note what is wrong inside them and go on, so that one reading
finds every mistake; what could not be read stands as None until `BadConfig` is raised. `${NAME}` is put in after YAML was parsed,
so a variable can hold anything and change nothing else, and the rules do not repeat in a message what came from one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import yaml

_YAML = "tag:yaml.org,2002:"
_TAGS = {_YAML + tag for tag in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")}

MAX_BYTES = 1_000_000  # of a config file
MAX_NODES = 20_000  # values in a file once its aliases are followed
MAX_DEPTH = 20


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


class Wrong(Exception):
    """What is wrong with the one value being read."""


_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOTHING = yaml.MappingNode(_YAML + "map", [], yaml.Mark("", 0, 0, 0, None, 0))


def compose(text: str, source: str) -> yaml.Node:
    """The file's top node. Raises BadConfig when it is not YAML, or too much of it."""
    try:
        _refuse_too_much(text)
        root = yaml.compose(text, Loader=_Loader) or _NOTHING
        _refuse_bomb(root)
    except yaml.YAMLError as error:
        raise BadConfig([_syntax(error, text)], source=source) from error
    except (Wrong, UnicodeError) as error:
        raise BadConfig([Problem(None, "", str(error))], source=source) from error
    return root


def _syntax(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    message = getattr(error, "problem", None) or "a character that YAML does not allow"
    if mark is None:
        return Problem(None, "", f"is not YAML: {message}")
    lines = text.splitlines()[mark.line : mark.line + 1]
    hint = '; between braces or brackets a variable needs quotes: "${NAME}"' if lines and "${" in lines[0] else ""
    return Problem(mark.line + 1, "", f"is not YAML: {message}{hint}")


def _refuse_too_much(text: str) -> None:
    """Before anything is built: a file too big or nested too deep."""
    if len(text) > MAX_BYTES:
        raise Wrong(f"is longer than {MAX_BYTES:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Wrong(f"is nested deeper than {MAX_DEPTH} levels")


def _refuse_bomb(root: yaml.Node) -> None:
    """Aliases are followed, so a few lines could stand for millions; one that holds itself, for endlessly many."""
    open_nodes, n_nodes = [root], 0
    while open_nodes:
        node = open_nodes.pop()
        n_nodes += 1
        if n_nodes > MAX_NODES:
            raise Wrong(f"holds more than {MAX_NODES:,} values once its aliases are followed")
        if isinstance(node, yaml.MappingNode):
            open_nodes.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            open_nodes.extend(node.value)


class Rule(Protocol):
    """How one value is read."""

    @property
    def kind(self) -> str:
        """What may be written, for the docs."""

    def read(self, node: yaml.Node, key: str, here: "Reading") -> Any:
        """The value, or Wrong; a rule with parts reports what is wrong inside them to `here`."""


@dataclass(slots=True)
class Reading:
    """One pass over one file: where things stand and what was found wrong."""

    environ: Mapping[str, str]
    folder: Path  # of the config file; paths in it start here
    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)  # by dotted key

    def wrong(self, key: str, message: str) -> None:
        """Take note of a problem with a key that was read."""
        self.problems.append(Problem(self.lines.get(key), key, message))

    def value(self, rule: Rule, node: yaml.Node, key: str, *, at: yaml.Node) -> Any:
        """What `rule` makes of `node`, or None with the problem noted."""
        self.lines[key] = line_of(at)
        try:
            _refuse_tag(node)
            return rule.read(node, key, self)
        except Wrong as error:
            self.wrong(key, str(error))
            return None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, after the environment was put in."""

    text: str
    type: str  # what YAML takes it for: str, int, float, bool, null, timestamp
    filled: bool  # part of it came from the environment, and may be a secret

    @property
    def shown(self) -> str:
        """As it may stand in a message."""
        return "what the environment holds" if self.filled else repr(self.text)

    @property
    def bare(self) -> bool:
        """Whether it may be more than text: not in quotes, or from the environment."""
        return self.filled or self.type != "str"

    @property
    def none(self) -> bool:
        """Whether it says that there is no value."""
        return self.type == "null" or self.text == "none" or (self.filled and not self.text)


def _refuse_tag(node: yaml.Node) -> None:
    if node.tag not in _TAGS:
        raise Wrong(f"a tag like {node.tag} is not read")


def line_of(node: yaml.Node) -> int:
    """The line that a node begins on, from 1."""
    return int(node.start_mark.line) + 1


def scalar_of(node: yaml.Node, must: str, here: Reading) -> Scalar:
    """The single value that a node is; `must` begins what is said when it is none."""
    if not isinstance(node, yaml.ScalarNode):
        raise Wrong(f"{must}, is {_shape(node)}")
    text = _filled(node.value, here.environ)
    return Scalar(text, node.tag.removeprefix(_YAML), filled="${" in node.value)


def _shape(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return repr(node.value) if node.value else "empty"


_PLACE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def _filled(text: str, environ: Mapping[str, str]) -> str:
    """`${NAME}` and `${NAME:-default}` put in, as in a shell; `$${` stands for the characters `${`."""

    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        variable = _VARIABLE.fullmatch(match[1])
        if variable is None or not match[0].endswith("}"):
            raise Wrong("a variable is written ${NAME} or ${NAME:-default}; write $${ for the characters themselves")
        name, default = variable.groups()
        found = environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise Wrong(f"the environment has no variable {name}; set it or write ${{{name}:-default}}")
        return found

    return _PLACE.sub(put, text)


def near(word: str, words: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean …?` with the nearest right word, or nothing when none is near."""
    found = get_close_matches(word, list(words), n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


@dataclass(frozen=True, slots=True)
class Text:
    """Text that matches a pattern; `says` describes it. A secret is not shown in messages."""

    pattern: str = r"[!-~]+"
    says: str = "text without spaces"
    secret: bool = False

    @property
    def kind(self) -> str:
        return self.says

    def read(self, node: yaml.Node, key: str, here: Reading) -> str:
        scalar = scalar_of(node, f"must be {self.says}", here)
        if scalar.type in {"bool", "null"} and not scalar.filled:
            raise Wrong(f"must be {self.says}, is {_shape(node)}; write it in quotes if it is meant")
        if not re.fullmatch(self.pattern, scalar.text, re.DOTALL):
            raise Wrong(f"must be {self.says}" + ("" if self.secret else f", is {scalar.shown}"))
        return scalar.text


NAME = Text(r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, dashes or underscores")
PROSE = Text(r".*\S.*", "text that is not empty")


@dataclass(frozen=True, slots=True)
class Number:
    """A number between two bounds."""

    least: float
    most: float
    whole: bool = False

    @property
    def kind(self) -> str:
        return f"{'whole number' if self.whole else 'number'}, {self._bounds}"

    @property
    def _bounds(self) -> str:
        return f"{self.least:.16g} to {self.most:.16g}"

    def read(self, node: yaml.Node, key: str, here: Reading) -> float:
        must = "must be a whole number" if self.whole else "must be a number"
        scalar = scalar_of(node, must, here)
        if not (scalar.bare and (_WHOLE if self.whole else _NUMBER).fullmatch(scalar.text)):
            raise Wrong(f"{must}, is {scalar.shown}")
        number = int(scalar.text) if self.whole else float(scalar.text)
        if not self.least <= number <= self.most:
            raise Wrong(f"must be from {self._bounds}, is {scalar.shown}")
        return number


_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    kind: str = "true or false"

    def read(self, node: yaml.Node, key: str, here: Reading) -> bool:
        scalar = scalar_of(node, "must be true or false", here)
        if not scalar.bare or scalar.text.lower() not in {"true", "false"}:
            raise Wrong(f"must be true or false, is {scalar.shown}")
        return scalar.text.lower() == "true"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def kind(self) -> str:
        return " or ".join(f"`{word}`" for word in self.words)

    def read(self, node: yaml.Node, key: str, here: Reading) -> str:
        must = "must be " + ("one of " if len(self.words) > 1 else "") + ", ".join(self.words)
        scalar = scalar_of(node, must, here)
        if scalar.text not in self.words:
            raise Wrong(f"{must}, is {scalar.shown}{near(scalar.text, self.words)}")
        return scalar.text


@dataclass(frozen=True, slots=True)
class Maybe:
    """What another rule reads, or none: the word, null, nothing, or an empty variable."""

    rule: Rule

    @property
    def kind(self) -> str:
        return f"{self.rule.kind}; or none"

    def read(self, node: yaml.Node, key: str, here: Reading) -> Any:
        if isinstance(node, yaml.ScalarNode) and scalar_of(node, "", here).none:
            return None
        return self.rule.read(node, key, here)


@dataclass(frozen=True, slots=True)
class Rows:
    """A list, every item by one rule."""

    rule: Rule
    least: int = 1

    @property
    def kind(self) -> str:
        return f"list of: {self.rule.kind}"

    def read(self, node: yaml.Node, key: str, here: Reading) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise Wrong(f"must be a list, is {_shape(node)}")
        if len(node.value) < self.least:
            raise Wrong("must not be empty")
        return tuple(here.value(self.rule, item, f"{key}[{i}]", at=item) for i, item in enumerate(node.value))


@dataclass(frozen=True, slots=True)
class Words:
    """A list without doubles, kept as a set."""

    rule: Rule

    @property
    def kind(self) -> str:
        return f"list of: {self.rule.kind}"

    def read(self, node: yaml.Node, key: str, here: Reading) -> frozenset[str]:
        return frozenset(Rows(self.rule, least=0).read(node, key, here)) - {None}


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping whose keys are the operator's, or some of `names`."""

    rule: Rule
    of: str  # what a key names
    names: tuple[str, ...] = ()
    keys: Text = NAME

    @property
    def kind(self) -> str:
        names = f" ({', '.join(self.names)})" if self.names else ""
        return f"mapping from {self.of}{names} to: {self.rule.kind}"

    def read(self, node: yaml.Node, key: str, here: Reading) -> dict[str, Any]:
        known = {}
        for name, (at, value) in _entries(node, key, here).items():
            dotted = f"{key}.{name}"
            if self._is_known(name, dotted, at, here):
                known[name] = here.value(self.rule, value, dotted, at=at)
        return known

    def _is_known(self, name: str, dotted: str, at: yaml.Node, here: Reading) -> bool:
        here.lines[dotted] = line_of(at)
        if self.names and name not in self.names:
            here.wrong(dotted, f"must be one of {', '.join(self.names)}{near(name, self.names)}")
        elif not re.fullmatch(self.keys.pattern, name):
            here.wrong(dotted, f"a name must be {self.keys.says}")
        else:
            return True
        return False


Entries = dict[str, tuple[yaml.Node, yaml.Node]]


def _entries(node: yaml.Node, key: str, here: Reading) -> Entries:
    """The (key, value) nodes of a mapping by the key's text; nothing written is an empty mapping."""
    if isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null":
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise Wrong(f"must be a mapping, is {_shape(node)}")
    found: Entries = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            here.problems.append(Problem(line_of(name), key, f"a key must be a single word, is {_shape(name)}"))
        elif name.value in found:
            message = f"written twice; first on line {line_of(found[name.value][0])}"
            here.problems.append(Problem(line_of(name), _join(key, name.value), message))
        else:
            found[name.value] = (name, value)
    return found


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping whose keys are the fields of a dataclass."""

    type: type[Any]

    @property
    def kind(self) -> str:
        return "mapping"

    def read(self, node: yaml.Node, key: str, here: Reading) -> Any:
        entries = _entries(node, key, here)
        known = settings(self.type)
        self._refuse_unknown(entries, tuple(setting.name for setting in known), key, here)
        values = {}
        for setting in known:
            if setting.name in entries:
                at, value = entries[setting.name]
                values[setting.name] = here.value(setting.rule, value, _join(key, setting.name), at=at)
            elif setting.required:
                here.problems.append(Problem(line_of(node), _join(key, setting.name), "is missing"))
                values[setting.name] = None
        return self.type(**values)

    def _refuse_unknown(self, entries: Entries, known: tuple[str, ...], key: str, here: Reading) -> None:
        for name, (at, _) in entries.items():
            if name not in known:
                message = "unknown key" + near(name, known, prefix=_join(key, ""))
                here.problems.append(Problem(line_of(at), _join(key, name), message))


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a section."""

    name: str
    rule: Rule
    doc: str
    default: Any  # MISSING when the key is required

    @property
    def required(self) -> bool:
        """Whether the key must be written."""
        return self.default is MISSING


def settings(section: type) -> tuple[Setting, ...]:
    """The keys of a section: its annotated fields, in order."""
    hints = get_type_hints(section, include_extras=True)
    return tuple(
        Setting(each.name, rule=said[0], doc=said[1], default=_default(each))
        for each in fields(section)
        if (said := getattr(hints[each.name], "__metadata__", None))
    )


def _default(of: Any) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()
