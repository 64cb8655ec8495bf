"""What the operator wrote, read once into frozen dataclasses. The only reader of the environment and of the config file.

Every key is one field of a dataclass below: `Annotated[type, rule, "what it means, with its unit"] = default`. The rules are in
`config_rules`, but for those of a single key; `docs/config.md` is printed from the same fields. While a file is read, what could
not be read stands as None, so that what keys say about each other can be checked too; once `parse` returns, nothing does.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from msgspec import UNSET, UnsetType

from bestserve import profiles
from bestserve.policy import heuristics
from bestserve.policy.facts import SLO, TASKS, Backend, Budget
from bestserve.profiles import Profile

from .config_rules import (
    NAME,
    PROSE,
    BadConfig,
    Choice,
    Flag,
    Maybe,
    Number,
    Problem,
    Reading,
    Rows,
    Section,
    Table,
    Text,
    Words,
    Wrong,
    compose,
    line_of,
    near,
    scalar_of,
)

__all__ = ["BadConfig", "Config", "Problem", "environment", "load", "parse"]

CAPABILITIES = ("tools", "json", "vision", "audio", "embeddings", "responses", "logprobs")
TIERS = ("flex", "default", "priority")  # from the lowest to the highest
FALLBACKS = tuple(name for name in heuristics.NAMES if name != "static")

_WEIGHTS = {"flex": 0.5, "default": 1.0, "priority": 2.0}


def environment() -> Mapping[str, str]:
    """The process's environment, for whoever calls `load`."""
    return os.environ  # noqa: TID251  the one place that reads it


@dataclass(frozen=True, slots=True)
class Url:
    """Where a backend listens."""

    kind: str = "http or https URL"

    def read(self, node: yaml.Node, key: str, here: Reading) -> str:
        url = scalar_of(node, "must be a URL", here).text.rstrip("/")
        try:
            wrong = _wrong_with_url(url)
        except ValueError as error:  # urlsplit, of a port or an address in brackets
            raise Wrong("must be a URL with a valid host and port") from error
        if wrong:
            raise Wrong(wrong)
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
        except ValueError as error:
            raise Wrong(str(error)) from error


def _profile_path(name: str, folder: Path) -> str | Path:
    if name.endswith(".toml"):
        return folder / name
    shipped = profiles.names()
    if name not in shipped:
        raise Wrong(f"{name!r} is not a shipped profile and not a path to a .toml file{near(name, shipped)}")
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
        raise Wrong("this version ships no learned policy yet; write none, and policy.fallback decides")


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
    drain_s: Annotated[float, Number(0, 86_400), "seconds that requests in flight get to finish at shutdown"] = 120.0
    max_body_mb: Annotated[float, Number(0.001, 4096), "largest request body, in megabytes (1,000,000 bytes)"] = 32.0

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
    capabilities: Annotated[frozenset[str] | None, Maybe(Words(Choice(CAPABILITIES))), "what it can do; none: as the profile says"] = None
    engine: Annotated[str, Choice(("sglang",)), "the software that serves"] = "sglang"
    api_key: Annotated[str | None, Maybe(Text(secret=True)), "bearer token; best as `${NAME}`"] = field(default=None, repr=False)
    max_in_flight: Annotated[int | None, Maybe(Number(1, 1_000_000, whole=True)), "most requests at it at once"] = None
    context: Annotated[int | None, Maybe(TOKENS), "longest prompt plus answer, in tokens; none takes it from the profile"] = None

    def facts(self) -> Backend:
        """What the policy knows of it."""
        return Backend(self.name, self.model, self._profile(), self._capabilities(), self.max_in_flight)

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

    weight: Annotated[float | UnsetType, Number(0.001, 1000), "worth of an answer on time; unset: 0.5 for flex, 1, 2 for priority"] = UNSET


_TIER_TABLE = Table(Section(TierDeadlines), "tier", TIERS)
_TASK_TABLE = Table(Section(Deadlines), "task", TASKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOConfig:
    """Deadlines of one answer. Where a tier and a task both say something, the tier's word holds."""

    ttft_ms: Annotated[float | None, _NO_MS, "milliseconds to the first token; none does not bind"] = 1000.0
    tpot_ms: Annotated[float | None, _NO_MS, "milliseconds per output token after the first; none does not bind"] = 60.0
    e2e_ms: Annotated[float | None, _NO_MS, "milliseconds for the whole answer; none does not bind"] = None
    kind: Annotated[Literal["hard", "soft"], _KIND, "hard: late is worth nothing; soft: worth decays"] = "hard"
    tiers: Annotated[Mapping[str, TierDeadlines], _TIER_TABLE, "what differs for one service tier"] = field(default_factory=dict)
    tasks: Annotated[Mapping[str, Deadlines], _TASK_TABLE, "what differs for one kind of task"] = field(default_factory=dict)

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


_FALLBACK = Text(says="`static:BACKEND[@BUDGET]` or one of " + ", ".join(FALLBACKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """Who decides."""

    checkpoint: Annotated[str | None, Checkpoint(), "the learned policy; with none the fallback decides"] = None
    explore: Annotated[float, Number(0, 0.2), "share of requests decided at random among the possible, to learn from"] = 0.0
    fallback: Annotated[str, _FALLBACK, "what decides without a checkpoint"] = "deadline-greedy"
    dir: Annotated[Path, Folder(), "where checkpoints are published; starts at the config file"] = Path("policies")
    seed: Annotated[int | None, Maybe(Number(0, 2**53, whole=True)), "of the policy's dice; none takes a fresh one"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How backends are asked how they are."""

    interval_ms: Annotated[float, MS, "milliseconds between two questions to one backend"] = 500.0
    timeout_ms: Annotated[float, MS, "milliseconds until a question counts as unanswered"] = 2000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the proxy waits for a backend."""

    connect_ms: Annotated[float, MS, "milliseconds for a connection"] = 2000.0
    first_token_ms: Annotated[float, MS, "milliseconds from the request to the first byte of the answer"] = 120_000.0
    idle_ms: Annotated[float, MS, "milliseconds between two bytes of the answer"] = 120_000.0
    total_ms: Annotated[float, MS, "milliseconds for the whole answer"] = 600_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """When a backend that fails is left alone."""

    failures: Annotated[int, Number(1, 1000, whole=True), "failures in a row that open the circuit"] = 3
    open_ms: Annotated[float, MS, "milliseconds until it is tried again"] = 5000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The replay log. Accepted, and not written by this version."""

    dir: Annotated[Path, Folder(), "where segments are written; starts at the config file"] = Path("replay")
    upload: Annotated[str | None, Maybe(Text()), "where finished segments are copied, as s3://bucket/prefix"] = None


_SHA256 = Text(r"[0-9a-fA-F]{64}", "the 64 hex digits of the key's SHA-256", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One caller's key. The key itself is never written down, only its hash."""

    name: Annotated[str, NAME, "who calls; unique"]
    sha256: Annotated[str, _SHA256, "hash of the key (`printf %s KEY | sha256sum`); unique"] = field(repr=False)
    tier: Annotated[str, Choice(TIERS), "the class: the highest service tier it may have, and the one it has unasked"] = "default"
    requests_per_minute: Annotated[
        int | None, Maybe(Number(1, 10_000_000, whole=True)), "most requests a minute, counted by each worker"
    ] = None
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
    root = compose(text, source)
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
    everybody = tuple(dict.fromkeys(backend.name for backend in config.backends or () if backend))
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
            raise BadConfig([Problem(line_of(name), "model_list", message)], source=source)


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
