"""What the operator wrote, read once into frozen dataclasses. The only reader of the environment and the config file.

Every key is one field of a dataclass below: `Annotated[type, rule, "what it means, with its unit"] = default`. The
rule reads a YAML node and says what is wrong with it; `docs/config.md` is printed from the same fields. The file is
composed, not constructed, so that every key knows its line, and reading goes on after a mistake, so that all of them
are reported at once. What could not be read stands as None inside until `parse` has raised; nobody outside sees it.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_type_hints
from urllib.parse import urlsplit

import yaml
from msgspec import UNSET, UnsetType

from bestserve import profiles
from bestserve.policy.facts import SLO, TASKS, Backend, Budget
from bestserve.profiles import BadProfile, Profile

CAPABILITIES = ("tools", "json", "vision", "audio", "embeddings", "responses", "logprobs")
TIERS = ("flex", "default", "priority")  # from the lowest to the highest
FALLBACKS = ("random", "least-loaded", "deadline-greedy", "weighted-score", "bid-price")

MAX_BYTES = 1_000_000  # of a config file
MAX_NODES = 20_000  # values in a file once its aliases are followed
MAX_DEPTH = 20

_WEIGHTS = {"flex": 0.5, "default": 1.0, "priority": 2.0}


def environment() -> Mapping[str, str]:
    """The process's environment, for whoever calls `load`."""
    return os.environ  # noqa: TID251  the one place that reads it


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
            key = f" {problem.key}:" if problem.key else ""
            yield f"{self.source}{line}:{key} {problem.message}"


class _Wrong(Exception):
    """What is wrong with the one value being read."""


# --- reading ----------------------------------------------------------------------------------------------------------


class Rule(Protocol):
    """How one value is read."""

    @property
    def kind(self) -> str:
        """What may be written, for the docs."""

    def read(self, node: yaml.Node, key: str, here: "Reading") -> Any:
        """The value, or _Wrong; a rule with parts reports what is wrong inside them to `here`."""


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
        self.lines[key] = _line(at)
        try:
            return rule.read(node, key, self)
        except _Wrong as error:
            self.wrong(key, str(error))
            return None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, after the environment was put in."""

    text: str
    type: str  # what YAML takes it for: str, int, float, bool, null, timestamp
    filled: bool  # part of it came from the environment, so it is never shown

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


_YAML = "tag:yaml.org,2002:"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _scalar(node: yaml.Node, must: str, here: Reading) -> Scalar:
    if not isinstance(node, yaml.ScalarNode):
        raise _Wrong(f"{must}, is {_shape(node)}")
    if not node.tag.startswith(_YAML):
        raise _Wrong(f"tags like {node.tag} are not read")
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
            raise _Wrong("a variable is written ${NAME} or ${NAME:-default}; write $${ for the characters themselves")
        name, default = variable.groups()
        found = environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise _Wrong(f"the environment has no variable {name}; set it or write ${{{name}:-default}}")
        return found

    return _PLACE.sub(put, text)


def near(word: str, words: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean …?` with the nearest right word, or nothing when none is near."""
    found = get_close_matches(word, list(words), n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


# --- rules ------------------------------------------------------------------------------------------------------------


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
        scalar = _scalar(node, f"must be {self.says}", here)
        if scalar.type in {"bool", "null"} and not scalar.filled:
            raise _Wrong(f"must be {self.says}, is {_shape(node)}; write it in quotes if it is meant")
        if not re.fullmatch(self.pattern, scalar.text, re.DOTALL):
            raise _Wrong(f"must be {self.says}" + ("" if self.secret else f", is {scalar.shown}"))
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
        return f"{self.least:.12g} to {self.most:.12g}"

    def read(self, node: yaml.Node, key: str, here: Reading) -> float:
        must = "must be a whole number" if self.whole else "must be a number"
        scalar = _scalar(node, must, here)
        if not (scalar.bare and (_WHOLE if self.whole else _NUMBER).fullmatch(scalar.text)):
            raise _Wrong(f"{must}, is {scalar.shown}")
        number = int(scalar.text) if self.whole else float(scalar.text)
        if not self.least <= number <= self.most:
            raise _Wrong(f"must be from {self._bounds}, is {scalar.shown}")
        return number


_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    kind: str = "true or false"

    def read(self, node: yaml.Node, key: str, here: Reading) -> bool:
        scalar = _scalar(node, "must be true or false", here)
        if not scalar.bare or scalar.text.lower() not in {"true", "false"}:
            raise _Wrong(f"must be true or false, is {scalar.shown}")
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
        scalar = _scalar(node, must, here)
        if scalar.text not in self.words:
            raise _Wrong(f"{must}, is {scalar.shown}{near(scalar.text, self.words)}")
        return scalar.text


@dataclass(frozen=True, slots=True)
class Maybe:
    """What another rule reads, or none: the word, null, nothing, or an empty variable."""

    rule: Rule

    @property
    def kind(self) -> str:
        return f"{self.rule.kind}; or none"

    def read(self, node: yaml.Node, key: str, here: Reading) -> Any:
        if isinstance(node, yaml.ScalarNode) and _scalar(node, "", here).none:
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
            raise _Wrong(f"must be a list, is {_shape(node)}")
        if len(node.value) < self.least:
            raise _Wrong("must not be empty")
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
        return f"mapping from {self.of} to: {self.rule.kind}"

    def read(self, node: yaml.Node, key: str, here: Reading) -> dict[str, Any]:
        known = {}
        for name, (at, value) in _entries(node, key, here).items():
            dotted = f"{key}.{name}"
            if self._is_known(name, dotted, at, here):
                known[name] = here.value(self.rule, value, dotted, at=at)
        return known

    def _is_known(self, name: str, dotted: str, at: yaml.Node, here: Reading) -> bool:
        here.lines[dotted] = _line(at)
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
        raise _Wrong(f"must be a mapping, is {_shape(node)}")
    found: Entries = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise _Wrong(f"a key must be a single word, is {_shape(name)} on line {_line(name)}")
        if name.value in found:
            first = _line(found[name.value][0])
            here.problems.append(Problem(_line(name), _join(key, name.value), f"written twice; first on line {first}"))
            continue
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
        return f"[{self.type.__name__}](#{self.type.__name__.lower()})"

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
                here.problems.append(Problem(_line(node), _join(key, setting.name), "is missing"))
                values[setting.name] = None
        return self.type(**values)

    def _refuse_unknown(self, entries: Entries, known: tuple[str, ...], key: str, here: Reading) -> None:
        for name, (at, _) in entries.items():
            if name not in known:
                message = "unknown key" + near(name, known, prefix=_join(key, ""))
                here.problems.append(Problem(_line(at), _join(key, name), message))


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


# --- rules of one key -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Url:
    """Where a backend listens."""

    kind: str = "http or https URL"

    def read(self, node: yaml.Node, key: str, here: Reading) -> str:
        url = _scalar(node, "must be a URL", here).text.rstrip("/")
        try:
            wrong = _wrong_with_url(url)
        except ValueError as error:  # urlsplit, of a port or an address in brackets
            raise _Wrong("must be a URL with a valid host and port") from error
        if wrong:
            raise _Wrong(wrong)
        return url


def _wrong_with_url(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not re.fullmatch(r"[!-~]+", url) or parts.port == 0:
        return "must be a URL like http://10.0.0.1:30000"
    if "@" in parts.netloc:
        return "must not hold a user or a password; use api_key"
    if "?" in url or "#" in url:
        return "must not have a query or a fragment"
    return "must not end in /v1, which is added" if parts.path.endswith("/v1") else None


@dataclass(frozen=True, slots=True)
class ProfileName:
    """A profile by its shipped name, or by the path of a TOML file."""

    kind: str = "shipped profile's name, or path of a .toml file"

    def read(self, node: yaml.Node, key: str, here: Reading) -> Profile:
        name = PROSE.read(node, key, here)
        try:
            return profiles.load(_profile_path(name, here.folder))
        except (BadProfile, ValueError) as error:
            raise _Wrong(str(error)) from error


def _profile_path(name: str, folder: Path) -> str | Path:
    if name.endswith(".toml"):
        return folder / name
    shipped = profiles.names()
    if name not in shipped:
        raise _Wrong(f"{name!r} is not a shipped profile and not a path to a .toml file{near(name, shipped)}")
    return name


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory, from where the config file is."""

    kind: str = "path"

    def read(self, node: yaml.Node, key: str, here: Reading) -> Path:
        return Path(PROSE.read(node, key, here))


@dataclass(frozen=True, slots=True)
class Cap:
    """A budget: none, a number of tokens, or tokens and an instruction."""

    kind: str = "none, or tokens, or `{tokens, instruction}`"

    def read(self, node: yaml.Node, key: str, here: Reading) -> Budget | None:
        if isinstance(node, yaml.MappingNode):
            cap = Section(BudgetConfig).read(node, key, here)
            return Budget(cap.tokens, cap.instruction) if cap.tokens else None
        return Budget(Maybe(TOKENS).read(node, key, here))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which learned policy decides."""

    kind: str = "none; `pretrained` and paths belong to later versions"

    def read(self, node: yaml.Node, key: str, here: Reading) -> str | None:
        word: str | None = Maybe(PROSE).read(node, key, here)
        _refuse_learned(word)
        return word


def _refuse_learned(word: str | None) -> None:
    if word is not None:
        raise _Wrong("this version ships no learned policy yet; write none, and policy.fallback decides")


# --- the sections -----------------------------------------------------------------------------------------------------

TOKENS = Number(1, 10_000_000, whole=True)
MS = Number(1, 86_400_000)
_NO_MS = Maybe(MS)
_KIND = Choice(("hard", "soft"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the proxy listens, and how it takes requests in."""

    host: Annotated[str, Text(), "address to bind"] = "127.0.0.1"
    port: Annotated[int, Number(0, 65535, whole=True), "TCP port; 0 takes a free one"] = 8000
    workers: Annotated[int, Number(1, 256, whole=True), "processes that serve"] = 1
    drain_s: Annotated[float, Number(0, 86_400), "seconds that requests in flight get to finish at shutdown"] = 120
    max_body_mb: Annotated[float, Number(0.001, 4096), "largest request body, in megabytes (1,000,000 bytes)"] = 32

    @property
    def max_body_bytes(self) -> int:
        """The largest request body in bytes."""
        return int(self.max_body_mb * 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """One upstream server."""

    name: Annotated[str, NAME, "what it is called in headers, metrics and `models`; unique, and no alias"]
    url: Annotated[str, Url(), "where it listens, without /v1"]
    model: Annotated[str, Text(), "the model's name as the server knows it"]
    profile: Annotated[Profile, ProfileName(), "how fast and how good it is; a path starts at the config file"]
    capabilities: Annotated[
        frozenset[str] | None, Maybe(Words(Choice(CAPABILITIES))), "what it can do; none takes them from the profile"
    ] = None
    engine: Annotated[str, Choice(("sglang",)), "the software that serves"] = "sglang"
    api_key: Annotated[
        str | None, Maybe(Text(secret=True)), "sent to it as bearer token; best written `${NAME}`"
    ] = field(default=None, repr=False)  # fmt: skip
    max_in_flight: Annotated[int | None, Maybe(Number(1, 1_000_000, whole=True)), "most requests at it at once"] = None
    context: Annotated[int | None, Maybe(TOKENS), "longest prompt plus answer, in tokens; none takes it from the profile"] = None

    def facts(self) -> Backend:
        """What the policy knows of it."""
        return Backend(self.name, self.model, self._profile(), self._capabilities())

    def _profile(self) -> Profile:
        if self.context is None:
            return self.profile
        return replace(self.profile, engine=replace(self.profile.engine, context=self.context))

    def _capabilities(self) -> frozenset[str]:
        return self.profile.capabilities if self.capabilities is None else self.capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetConfig:
    """A cap on the answer's tokens that the policy may set, with words that make the answer end before it."""

    tokens: Annotated[int, TOKENS, "the cap, in tokens"]
    instruction: Annotated[str | None, Maybe(PROSE), "put at the end of the last user message under this cap"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Deadlines that differ from those of `slo`. A key that is not written changes nothing; none lifts the deadline."""

    ttft_ms: Annotated[float | UnsetType | None, _NO_MS, "milliseconds to the first token"] = UNSET
    tpot_ms: Annotated[float | UnsetType | None, _NO_MS, "milliseconds per output token after the first"] = UNSET
    e2e_ms: Annotated[float | UnsetType | None, _NO_MS, "milliseconds for the whole answer"] = UNSET
    kind: Annotated[Literal["hard", "soft"] | UnsetType, _KIND, "hard: late is worth nothing; soft: worth decays"] = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class TierDeadlines(Deadlines):
    """What one service tier is promised, and what it is worth."""

    weight: Annotated[float | UnsetType, Number(0.001, 1000), "what an answer on time is worth; unset: flex 0.5, default 1, priority 2"] = (
        UNSET
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOConfig:
    """Deadlines of one answer. Where a tier and a task both say something, the tier's word holds."""

    ttft_ms: Annotated[float | None, _NO_MS, "milliseconds to the first token; none does not bind"] = 1000.0
    tpot_ms: Annotated[float | None, _NO_MS, "milliseconds per output token after the first; none does not bind"] = 60.0
    e2e_ms: Annotated[float | None, _NO_MS, "milliseconds for the whole answer; none does not bind"] = None
    kind: Annotated[Literal["hard", "soft"], _KIND, "hard: late is worth nothing; soft: worth decays"] = "hard"
    tiers: Annotated[Mapping[str, TierDeadlines], Table(Section(TierDeadlines), "tier", TIERS), "what differs for one service tier"] = (
        field(default_factory=dict)
    )
    tasks: Annotated[
        Mapping[str, Deadlines], Table(Section(Deadlines), "task", TASKS), "what differs for one kind of task"
    ] = field(default_factory=dict)  # fmt: skip

    def slo_for(self, tier: str, task: str | None) -> SLO:
        """The deadlines of an answer of this tier and task: the tier's, else the task's, else everybody's."""
        layers = tuple(layer for layer in (self.tiers.get(tier), self.tasks.get(task or ""), self) if layer)
        return SLO(
            ttft_s=_seconds(_first_said(layers, "ttft_ms")),
            tpot_s=_seconds(_first_said(layers, "tpot_ms")),
            e2e_s=_seconds(_first_said(layers, "e2e_ms")),
            hard=_first_said(layers, "kind") == "hard",
        )

    def weight_for(self, tier: str) -> float:
        """What an answer on time is worth in this tier, relative to the others."""
        said = self.tiers[tier].weight if tier in self.tiers else UNSET
        return _WEIGHTS[tier] if isinstance(said, UnsetType) else said


def _first_said(layers: Iterable[Deadlines | SLOConfig], name: str) -> Any:
    return next(value for layer in layers if (value := getattr(layer, name)) is not UNSET)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """Who decides."""

    checkpoint: Annotated[str | None, Checkpoint(), "the learned policy; with none the fallback decides"] = None
    explore: Annotated[float, Number(0, 0.2), "share of requests decided at random among the possible, to learn from"] = 0.0
    fallback: Annotated[
        str, Text(says="`static:BACKEND[@BUDGET]` or one of " + ", ".join(FALLBACKS)), "what decides without a checkpoint"
    ] = "deadline-greedy"
    dir: Annotated[Path, Folder(), "where checkpoints are published; starts at the config file"] = Path("policies")
    seed: Annotated[int | None, Maybe(Number(0, 2**53, whole=True)), "of the policy's dice; none takes a fresh one"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How backends are asked how they are."""

    interval_ms: Annotated[float, MS, "milliseconds between two questions to one backend"] = 500
    timeout_ms: Annotated[float, MS, "milliseconds until a question counts as unanswered"] = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the proxy waits for a backend."""

    connect_ms: Annotated[float, MS, "milliseconds for a connection"] = 2000
    first_token_ms: Annotated[float, MS, "milliseconds from the request to the first byte of the answer"] = 120_000
    idle_ms: Annotated[float, MS, "milliseconds between two bytes of the answer"] = 120_000
    total_ms: Annotated[float, MS, "milliseconds for the whole answer"] = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """When a backend that fails is left alone."""

    failures: Annotated[int, Number(1, 1000, whole=True), "failures in a row that open the circuit"] = 3
    open_ms: Annotated[float, MS, "milliseconds until it is tried again"] = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The replay log. Accepted, and not written by this version."""

    dir: Annotated[Path, Folder(), "where segments are written; starts at the config file"] = Path("replay")
    upload: Annotated[str | None, Maybe(Text()), "where finished segments are copied, as s3://bucket/prefix"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One caller's key. The key itself is never written down, only its hash."""

    name: Annotated[str, NAME, "who calls; unique"]
    sha256: Annotated[str, Text(r"[0-9a-fA-F]{64}", "the 64 hex digits of the key's SHA-256", secret=True), "hash of the key; unique"] = (
        field(repr=False)
    )
    tier: Annotated[str, Choice(TIERS), "the class: the highest service tier it may have, and the one it has unasked"] = "default"
    requests_per_minute: Annotated[int | None, Maybe(Number(1, 10_000_000, whole=True)), "most requests a minute"] = None
    admin: Annotated[bool, Flag(), "whether it may call the routes under /admin/"] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What the proxy says on its standard error."""

    level: Annotated[str, Choice(("debug", "info", "warning", "error", "critical")), "the least that is said"] = "info"


_ALIAS = Text(r"[A-Za-z0-9._:/@+-]{1,128}", "1 to 128 letters, digits or any of . _ : / @ + -")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    listen: Annotated[Listen, Section(Listen), "where the proxy listens"] = field(default_factory=Listen)
    backends: Annotated[tuple[BackendConfig, ...], Rows(Section(BackendConfig)), "the fleet, at least one"]
    models: Annotated[
        Mapping[str, tuple[str, ...]],
        Table(Rows(NAME), "alias", keys=_ALIAS),
        "which backends a model name lets the policy choose from; when empty, `auto` is all of them",
    ] = field(default_factory=dict)
    default_model: Annotated[str | None, Maybe(_ALIAS), "alias that serves unknown model names; none refuses them"] = None
    budgets: Annotated[tuple[Budget, ...], Rows(Cap()), "caps on the answer that the policy may choose from"] = (Budget(),)
    slo: Annotated[SLOConfig, Section(SLOConfig), "deadlines"] = field(default_factory=SLOConfig)
    policy: Annotated[PolicyConfig, Section(PolicyConfig), "who decides"] = field(default_factory=PolicyConfig)
    probe: Annotated[Probe, Section(Probe), "how backends are asked how they are"] = field(default_factory=Probe)
    timeouts: Annotated[Timeouts, Section(Timeouts), "how long a backend may take"] = field(default_factory=Timeouts)
    circuit: Annotated[Circuit, Section(Circuit), "when a failing backend is left alone"] = field(default_factory=Circuit)
    replay: Annotated[Replay | None, Maybe(Section(Replay)), "the log of decisions; not written by this version"] = None
    keys: Annotated[tuple[Key, ...], Rows(Section(Key), least=0), "who may call; when empty, everybody"] = ()
    log: Annotated[Log, Section(Log), "what the proxy says"] = field(default_factory=Log)
    source: str = ""  # the file, as it was named
    warnings: tuple[str, ...] = ()  # what was accepted and has no effect

    def facts(self) -> tuple[Backend, ...]:
        """The fleet as the policy knows it."""
        return tuple(backend.facts() for backend in self.backends)

    def slo_for(self, tier: str, task: str | None = None) -> SLO:
        """The deadlines of an answer of this tier (auto is default) and task."""
        return self.slo.slo_for(_tier(tier), task)

    def weight_for(self, tier: str) -> float:
        """What an answer on time is worth in this tier (auto is default)."""
        return self.slo.weight_for(_tier(tier))


def _tier(name: str) -> str:
    return "default" if name == "auto" else name


# --- the whole --------------------------------------------------------------------------------------------------------


def load(environ: Mapping[str, str], path: Path | str) -> Config:
    """Read a config file. Raises BadConfig."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadConfig([Problem(None, "", f"cannot be read: {error.strerror}")], source=str(path)) from error
    except UnicodeDecodeError as error:
        raise BadConfig([Problem(None, "", "is not UTF-8 text")], source=str(path)) from error
    return parse(text, environ, source=str(path))


def parse(text: str, environ: Mapping[str, str], *, source: str) -> Config:
    """Read a config's text; paths in it start at the folder of `source`. Raises BadConfig."""
    root = _compose(text, source)
    _refuse_litellm(root, source)
    here = Reading(environ, Path(source).parent)
    config: Config | None = here.value(Section(Config), root, "", at=root)
    if config is not None:
        config = _with_models(config)
        _relate(config, here)
    if config is None or here.problems:
        raise BadConfig(here.problems, source=source)
    return _placed(config, source)


def _with_models(config: Config) -> Config:
    everybody = tuple(backend.name for backend in config.backends or () if backend)
    return replace(config, models=config.models or {"auto": everybody})


def _placed(config: Config, source: str) -> Config:
    """Knowing which file it is from, and with paths from there."""
    folder = Path(source).parent
    replay = config.replay and replace(config.replay, dir=folder / config.replay.dir)
    return replace(
        config,
        policy=replace(config.policy, dir=folder / config.policy.dir),
        replay=replay,
        source=source,
        warnings=("replay: accepted, but the log is not written by this version",) if replay else (),
    )


def _refuse_litellm(root: yaml.Node, source: str) -> None:
    """Before every one of its keys is called unknown."""
    for name, _ in root.value if isinstance(root, yaml.MappingNode) else ():
        if name.value == "model_list":
            message = "this is a LiteLLM config: `bestserve import` is not in this version"
            raise BadConfig([Problem(_line(name), "model_list", message)], source=source)


_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_NOTHING = yaml.MappingNode(_YAML + "map", [], yaml.Mark("", 0, 0, 0, None, 0))


def _compose(text: str, source: str) -> yaml.Node:
    try:
        _refuse_too_much(text)
        root = yaml.compose(text, Loader=_Loader) or _NOTHING
        _refuse_bomb(root)
    except yaml.YAMLError as error:
        raise BadConfig([_syntax(error, text)], source=source) from error
    except (_Wrong, UnicodeError) as error:
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
        raise _Wrong(f"is longer than {MAX_BYTES:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _Wrong(f"is nested deeper than {MAX_DEPTH} levels")


def _refuse_bomb(root: yaml.Node) -> None:
    """Aliases are followed, so a few lines could stand for millions; one that holds itself, for endlessly many."""
    open_nodes, n_nodes = [root], 0
    while open_nodes:
        node = open_nodes.pop()
        n_nodes += 1
        if n_nodes > MAX_NODES:
            raise _Wrong(f"holds more than {MAX_NODES:,} values once its aliases are followed")
        if isinstance(node, yaml.MappingNode):
            open_nodes.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            open_nodes.extend(node.value)


# --- what one key says about another ----------------------------------------------------------------------------------


def _relate(config: Config, here: Reading) -> None:
    backends = [backend.name if backend else None for backend in config.backends or ()]
    names = [name for name in backends if name]
    _unique(backends, "backends[{}].name", here)
    _no_alias(backends, config.models, here)
    for alias, members in config.models.items():
        _members(alias, members or (), names, here)
    if config.default_model is not None and config.default_model not in config.models:
        here.wrong("default_model", f"{config.default_model!r} is no alias{near(config.default_model, config.models)}")
    budgets = [budget.name if budget else None for budget in config.budgets or ()]
    _unique(budgets, "budgets[{}]", here)
    _fallback(config.policy, names, budgets, here)
    _unique([key.name if key else None for key in config.keys or ()], "keys[{}].name", here)
    _unique([key.sha256.lower() if key and key.sha256 else None for key in config.keys or ()], "keys[{}].sha256", here)


def _unique(values: list[str | None], form: str, here: Reading) -> None:
    first: dict[str, int] = {}
    for i, value in enumerate(values):
        if value is not None and first.setdefault(value, i) != i:
            here.wrong(form.format(i), f"is the same as {form.format(first[value])}")


def _no_alias(backends: list[str | None], models: Mapping[str, Any], here: Reading) -> None:
    for i, name in enumerate(backends):
        if name in models:
            here.wrong(f"backends[{i}].name", f"{name!r} is also an alias in models")


def _members(alias: str, members: tuple[str | None, ...], names: list[str], here: Reading) -> None:
    _unique(list(members), f"models.{alias}[{{}}]", here)
    for i, name in enumerate(members):
        if name is not None and name not in names:
            here.wrong(f"models.{alias}[{i}]", f"{name!r} is no backend{near(name, names)}")


def _fallback(policy: PolicyConfig, names: list[str], budgets: list[str | None], here: Reading) -> None:
    word = policy.fallback if policy else None
    if word is None or word in FALLBACKS:
        return
    kind, _, target = word.partition(":")
    if kind != "static" or not target:
        words = (*FALLBACKS, "static:BACKEND")
        here.wrong("policy.fallback", f"must be one of {', '.join(words)}, is {word!r}{near(word, words)}")
        return
    name, at, budget = target.partition("@")
    if name not in names:
        here.wrong("policy.fallback", f"{name!r} is no backend{near(name, names, prefix='static:')}")
    if at and budget not in budgets:
        here.wrong("policy.fallback", f"{budget!r} is none of the budgets, which are {', '.join(filter(None, budgets))}")
