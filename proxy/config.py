"""What the operator wrote, read once into frozen models. The only reader of the environment and of the config file.

Every key is one field of a `Section`; `docs/config.md` is printed from them. `config_file` reads the YAML, `config_words` puts what
pydantic finds wrong in words.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictFloat,
    StrictInt,
    TypeAdapter,
    ValidationInfo,
)
from pydantic import WithJsonSchema as Shown

from bestserve import profiles
from bestserve.policy import heuristics
from bestserve.policy.classify import Classifier
from bestserve.policy.facts import FREE, SLO, TASKS, Backend, Budget, Tariff
from bestserve.profiles import Profile

from . import segments, weights
from .config_bought import PROVIDER, MaybeUsd, Option, Quality, Spend, Usd, tariff
from .config_file import BadConfig, File, Loc, Problem, dotted, shown
from .config_words import ALIAS, NAME, PROSE, SECRET, SHA256, WORD, Section, near, validated
from .dialects import providers
from .upload import SCHEMES

__all__ = ["BadConfig", "Config", "Problem", "environment", "load", "parse"]

Capability = Literal["tools", "json", "vision", "audio", "embeddings", "responses", "logprobs"]
Tier = Literal["flex", "default", "priority"]
Engine = Literal["sglang", "vllm", "openai", "litellm"]
Permission = Literal["allowed", "never"]
TIERS: tuple[str, ...] = get_args(Tier)  # from the lowest to the highest
FALLBACKS = tuple(name for name in heuristics.NAMES if name != "static")
LEARNED = ("pretrained", "published")
"""Words for learned policies: the one that ships, and none until one is published."""

EMPTY: Any = None  # a section that is not written is as one left empty
NO_CAP: Any = (None,)
_SHIPPED: Any = "shipped"
_WEIGHTS = {"flex": 0.5, "default": 1.0, "priority": 2.0}


def environment() -> Mapping[str, str]:
    """The process's environment, for whoever calls `load`."""
    return os.environ  # noqa: TID251  the one place that reads it


def tell_libraries() -> None:
    """What a library reads of the environment when it is imported: LiteLLM shall not fetch its prices from GitHub, nor read a `.env`."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # noqa: TID251  it takes this from nowhere else
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # noqa: TID251  likewise


# --- what a value may be ----------------------------------------------------------------------------------------------


def _none_or(value: Any) -> Any:
    return None if value in ("none", "") else value


def _url(value: Any) -> str:
    url = AnyHttpUrl(value)
    text = str(url).rstrip("/")
    if url.port == 0 or not value.isprintable():  # the library drops what does not print
        raise ValueError("must be a URL like http://10.0.0.1:30000")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user or a password; use api_key")
    if "?" in text or "#" in text:
        raise ValueError("must not have a query or a fragment")
    if text.endswith("/v1"):
        raise ValueError("must not end in /v1, which is added")
    return text


def _profile(value: Any, info: ValidationInfo) -> Profile:
    name = _TEXT.validate_python(value)
    if name.endswith(".toml"):
        return profiles.load(_folder(name, info))
    if name not in profiles.names():
        raise ValueError(f"{name!r} is not a shipped profile and not a path to a .toml file{near(name, profiles.names())}")
    return profiles.load(name)


def _folder(value: Any, info: ValidationInfo[Any]) -> Path:
    return Path(info.context.source).parent / (value if isinstance(value, Path) else _TEXT.validate_python(value))


def _packable(word: segments.Compression) -> segments.Compression:
    if word == "zstd" and not segments.has_zstd():
        raise ValueError("zstd needs Python 3.14, or `pip install 'bestserve[zstd]'`")
    return word


def _uploadable(url: str | None) -> str | None:
    if url is not None and not (url.isprintable() and url.startswith(SCHEMES)):
        raise ValueError(f"must be a URL that starts with one of {', '.join(SCHEMES)}")
    if url is not None and find_spec("obstore") is None:
        raise ValueError("uploading needs `pip install 'bestserve[upload]'`")
    return url


def _classifier(value: Any, info: ValidationInfo) -> Classifier:
    name = _TEXT.validate_python(value)
    return weights.shipped() if name == "shipped" else weights.load(_folder(name, info))


def _checkpoint(value: Any, info: ValidationInfo) -> Path | str:
    return value if _TEXT.validate_python(value) in LEARNED else _folder(value, info)


K = TypeVar("K")
V = TypeVar("V")
Maybe = Annotated[V | None, BeforeValidator(_none_or)]
Table = Annotated[dict[K, V], BeforeValidator(lambda value: {} if value is None else value)]
Count = Annotated[StrictInt, Field(ge=1, le=10_000_000)]
Seed = Annotated[StrictInt, Field(ge=0, le=2**53)]
Ms = Annotated[StrictFloat, Field(ge=1, le=86_400_000)]
Limit = Annotated[StrictFloat, Field(ge=0.001, le=1_000_000)]
Weight = Annotated[StrictFloat, Field(ge=0.001, le=1000)]
Word = Annotated[str, Field(pattern=WORD)]
Secret = Annotated[str, Field(pattern=SECRET)]
Prose = Annotated[str, Field(pattern=PROSE)]
_TEXT = TypeAdapter(Prose, config=ConfigDict(coerce_numbers_to_str=True))
Name = Annotated[str, Field(pattern=NAME)]
Alias = Annotated[str, Field(pattern=ALIAS)]
Kind = Literal["hard", "soft"]
Task = Literal[TASKS]  # type: ignore[valid-type]  # words that live in the profiles
Folder = Annotated[Path, PlainValidator(_folder), Shown({"kind": "path"})]
Compression = Annotated[segments.Compression, AfterValidator(_packable)]
Upload = Annotated[str | None, BeforeValidator(_none_or), AfterValidator(_uploadable), Shown({"kind": "URL, or none"})]
Url = Annotated[str, BeforeValidator(_url), Shown({"kind": "http or https URL"})]
ProfileName = Annotated[Profile, PlainValidator(_profile), Shown({"kind": "shipped profile's name, or path of a .toml file"})]
CheckpointFile = Annotated[
    Path | str,
    PlainValidator(_checkpoint),
    Shown({"kind": "`pretrained`, `published`, or path of a checkpoint that `bestserve train` wrote"}),
]
Weights = Annotated[Classifier, PlainValidator(_classifier), Shown({"kind": "`shipped`, or path of a file that `classify train` wrote"})]
Fallback = Annotated[str, Shown({"kind": "`static:BACKEND[@BUDGET]` or one of " + ", ".join(FALLBACKS)})]


# --- the sections -----------------------------------------------------------------------------------------------------


class Listen(Section):
    """Where the proxy listens, and how it takes requests in."""

    host: Word = Field(default="127.0.0.1", description="address to bind")
    port: StrictInt = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes a free one")
    workers: StrictInt = Field(default=1, ge=1, le=256, description="processes that serve")
    drain_s: StrictFloat = Field(default=120.0, ge=0, le=86_400, description="seconds that requests in flight get to finish at shutdown")
    max_body_mb: StrictFloat = Field(default=32.0, ge=0.001, le=4096, description="largest request body, in megabytes (1,000,000 bytes)")

    @property
    def max_body_bytes(self) -> int:
        """The largest request body in bytes."""
        return int(self.max_body_mb * 1_000_000)


class BackendConfig(Section):
    """One upstream server."""

    name: Name = Field(description="what it is called in headers, metrics and `models`; unique, and no alias")
    url: Maybe[Url] = Field(default=None, description="where it listens, without /v1; every engine but litellm needs it")
    model: Word = Field(description="the model's name as the server knows it; of litellm, PROVIDER/MODEL")
    profile: ProfileName = Field(
        default=PROVIDER, description="how fast and how good it is; a path starts at the config file; every engine but litellm needs it"
    )
    capabilities: Maybe[frozenset[Capability]] = Field(default=None, description="what it can do; none: as the profile says")
    engine: Engine = Field(
        default="sglang", description="the software that serves; openai: any other with OpenAI's API; litellm: a provider, through LiteLLM"
    )
    api_key: Maybe[Word] = Field(default=None, repr=False, description="bearer token; best as `${NAME}`")
    max_in_flight: Maybe[Count] = Field(default=None, description="most requests at it at once")
    context: Maybe[Count] = Field(default=None, description="longest prompt plus answer, in tokens; none takes it from the profile")
    quality: Quality = Field(default=None, description="how good it is, in place of the profile's word")
    usd_per_million_input: MaybeUsd = Field(default=None, description="paid for prompts; of litellm, none takes it from LiteLLM's table")
    usd_per_million_output: MaybeUsd = Field(default=None, description="paid for answers; likewise")
    usd_per_million_cached: MaybeUsd = Field(default=None, description="paid for what the provider remembers of a prompt; likewise")
    spend: Spend = Field(default=EMPTY, description="the most that may be paid")
    requests_per_minute: Maybe[Count] = Field(default=None, description="most requests in any minute, shared evenly by the workers")
    tokens_per_minute: Maybe[Count] = Field(default=None, description="most tokens in any minute, prompts and answers; likewise")
    answer_tokens: Count = Field(default=4096, description="tokens for which money is set aside where an answer has no cap of its own")
    litellm: Table[Word, Option] = Field(
        default={}, repr=False, description="what else LiteLLM needs for this provider, as it names it: api_base, api_version …"
    )

    def facts(self) -> Backend:
        """What the policy knows of it. Of a provider LiteLLM is asked where the config does not say; the first time takes seconds."""
        known = providers.known(self.model) if self.engine == "litellm" else providers.NOTHING
        engine, profile = self.profile.engine, self.profile
        if context := self.context or known.context:
            engine = replace(engine, context=context)
        if self.engine == "litellm" and self.max_in_flight:
            engine = replace(engine, max_running=self.max_in_flight)
        profile = replace(profile, engine=engine, quality={**profile.quality, **(self.quality or {})})
        capabilities = self.capabilities if self.capabilities is not None else known.capabilities or profile.capabilities
        return Backend(self.name, self.model, profile, capabilities, self.max_in_flight, self.tariff or known.tariff or FREE)

    @property
    def tariff(self) -> Tariff | None:
        """What is paid by the token, where the config says it."""
        return tariff(self.usd_per_million_input, self.usd_per_million_output, self.usd_per_million_cached)

    @property
    def is_bought(self) -> bool:
        """Whether its answers come from somebody else: a provider behind LiteLLM, or whoever is paid by the token."""
        return self.engine == "litellm" or self.tariff not in (None, FREE)


class BudgetConfig(Section):
    """A cap on the answer's tokens that the policy may set, with words that make the answer end before it."""

    tokens: Count = Field(description="the cap, in tokens")
    instruction: Maybe[Prose] = Field(default=None, description="put at the end of the last user message under this cap")


def _budget(value: Any) -> Budget:
    if _none_or(value) is None:
        return Budget()
    cap = BudgetConfig.model_validate(value if isinstance(value, dict) else {"tokens": value})
    return Budget(cap.tokens, cap.instruction)


Cap = Annotated[Budget, PlainValidator(_budget, json_schema_input_type=BudgetConfig | Maybe[Count])]


def _without_defaults(schema: dict[str, Any]) -> None:
    for setting in schema["properties"].values():
        del setting["default"]


class Deadlines(Section):
    """Deadlines that differ from those of `slo`. A key that is not written changes nothing; none lifts the deadline."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    ttft_ms: Maybe[Ms] = Field(default=None, description="milliseconds to the first token")
    tpot_ms: Maybe[Ms] = Field(default=None, description="milliseconds per output token after the first")
    e2e_ms: Maybe[Ms] = Field(default=None, description="milliseconds for the whole answer")
    kind: Kind = Field(default="hard", description="hard: late is worth nothing; soft: worth decays")


class TierDeadlines(Deadlines):
    """What one service tier is promised, and what it is worth."""

    weight: Maybe[Weight] = Field(default=None, description="worth of an answer on time; unset: 0.5 for flex, 1, 2 for priority")
    overflow: Permission = Field(default="allowed", description="whether backends that are paid for may answer: allowed or never")
    explore: Permission = Field(default="allowed", description="whether `policy.explore` holds for this tier: allowed or never")


class SLOConfig(Section):
    """Deadlines of one answer. Where a tier and a task both say something, the tier's word holds."""

    ttft_ms: Maybe[Ms] = Field(default=1000.0, description="milliseconds to the first token; none does not bind")
    tpot_ms: Maybe[Ms] = Field(default=60.0, description="milliseconds per output token after the first; none does not bind")
    e2e_ms: Maybe[Ms] = Field(default=None, description="milliseconds for the whole answer; none does not bind")
    kind: Kind = Field(default="hard", description="hard: late is worth nothing; soft: worth decays")
    tiers: Table[Tier, TierDeadlines] = Field(default={}, description="what differs for one service tier")
    tasks: Table[Task, Deadlines] = Field(default={}, description="what differs for one kind of task")


class Canary(Section):
    """How a version that has just been published is tried: in turns with what stood before, until it stands or goes."""

    window_s: StrictFloat = Field(default=30.0, ge=1, le=3600, description="seconds of each turn, by the clock")
    pairs: StrictInt = Field(default=10, ge=0, le=1000, description="pairs of turns until the new version stands; 0: it stands at once")
    requests: StrictInt = Field(default=20, ge=1, le=100_000, description="fewest requests of a turn that counts, of all workers together")
    strange: StrictFloat = Field(
        default=0.2, gt=0, le=1, description="share of requests unlike anything that it was trained on, beyond which it goes; 1: never"
    )


class PolicyConfig(Section):
    """Who decides."""

    checkpoint: Maybe[CheckpointFile] = Field(
        default="pretrained",
        description="the learned policy until one is published in `dir`: the one that ships, or a file's; with `published` the fallback"
        " decides until then, with none always",
    )
    explore: StrictFloat = Field(
        default=0.0, ge=0, le=0.2, description="share of requests decided at random among the possible, to learn from"
    )
    fallback: Fallback = Field(default="deadline-greedy", description="what decides where no learned policy does, or it fails")
    usd_weight: Usd = Field(
        default=100.0, description="reward that a dollar is worth; at 100, an answer of quality 1 on time is worth a cent"
    )
    prefixes: bool = Field(
        default=True,
        description="whether backends of one's own are expected to remember prompts that they have read, and to read on from there",
    )
    dir: Folder = Field(default=Path("policies"), description="where policies are published, which are followed; starts at the config file")
    canary: Canary = Field(default=EMPTY, description="how what was just published is tried")
    seed: Maybe[Seed] = Field(default=None, description="of the policy's dice; none takes a fresh one")

    @property
    def follows(self) -> bool:
        """Whether what is published in `dir` decides: unless the config says `checkpoint: none`."""
        return self.checkpoint is not None


class ClassifyConfig(Section):
    """How a request's task and the length of its answer are told from its text."""

    enabled: bool = Field(default=True, description="whether the text is looked at; if not, the prior answers")
    weights: Weights = Field(default=_SHIPPED, description="the classifier; a path starts at the config file")
    drift: bool = Field(default=True, description="whether expected lengths follow the answers that are seen, by backend and task")
    learn: bool = Field(
        default=False, description="whether numbers of known words and weak labels are kept with each record of the replay log"
    )


class Probe(Section):
    """How backends are asked how they are."""

    interval_ms: Ms = Field(default=500.0, description="milliseconds between two questions to one backend")
    timeout_ms: Ms = Field(default=2000.0, description="milliseconds until a question counts as unanswered")


class Timeouts(Section):
    """How long the proxy waits for a backend."""

    connect_ms: Ms = Field(default=2000.0, description="milliseconds for a connection")
    first_token_ms: Ms = Field(default=120_000.0, description="milliseconds from the request to the first byte of the answer")
    idle_ms: Ms = Field(default=120_000.0, description="milliseconds between two bytes of the answer")
    total_ms: Ms = Field(default=600_000.0, description="milliseconds for the whole answer")


class Circuit(Section):
    """When a backend that fails is left alone."""

    failures: StrictInt = Field(default=3, ge=1, le=1000, description="failures in a row that open the circuit")
    open_ms: Ms = Field(default=5000.0, description="milliseconds until it is tried again")


class Replay(Section):
    """The replay log: what was decided and what came of it. Never a prompt, an answer or a key. See docs/replay-log.md."""

    dir: Folder = Field(default=Path("replay"), description="where segments are written; starts at the config file")
    compression: Compression = Field(default="gzip", description="of finished segments; zstd before Python 3.14 needs bestserve[zstd]")
    fsync_ms: StrictFloat = Field(default=1000.0, ge=10, le=60_000, description="milliseconds between two times of forcing it to the disk")
    segment_mb: StrictFloat = Field(default=64.0, ge=0.01, le=4096, description="megabytes after which a segment is finished")
    segment_min: StrictFloat = Field(default=60.0, ge=0.01, le=10_080, description="minutes after which a segment is finished")
    queue: StrictInt = Field(default=20_000, ge=16, le=10_000_000, description="lines that may wait for the disk in each process")
    max_gb: Maybe[Limit] = Field(default=None, description="gigabytes beyond which the oldest segments are removed")
    max_days: Maybe[Limit] = Field(default=None, description="days after which segments are removed")
    upload: Upload = Field(
        default=None, description="where finished segments are copied, as s3://bucket/prefix or file:///path; needs bestserve[upload]"
    )
    secret: Maybe[Secret] = Field(
        default=None, repr=False, description="makes ids of decisions a caller's own; the same on every host; none keeps one in `dir`"
    )
    feedback_per_minute: Count = Field(default=600, description="most feedback of one key a minute, counted by each worker")

    @property
    def fsync_s(self) -> float:
        """Seconds."""
        return self.fsync_ms / 1000

    @property
    def segment_bytes(self) -> int:
        """A segment's size when it is finished."""
        return int(self.segment_mb * 1_000_000)

    @property
    def segment_s(self) -> float:
        """A segment's age when it is finished, in seconds."""
        return self.segment_min * 60

    @property
    def most_bytes(self) -> float:
        """What all segments together may have; infinite without a limit."""
        return float("inf") if self.max_gb is None else self.max_gb * 1e9

    @property
    def most_age_s(self) -> float:
        """How old a segment may be, in seconds; infinite without a limit."""
        return float("inf") if self.max_days is None else self.max_days * 86_400


class JudgeConfig(Section):
    """A model that scores a sample of answers. It is shown prompt and answer; of both, only the score is kept. See docs/policies.md."""

    model: Word = Field(description="the model that judges, as LiteLLM names it: PROVIDER/MODEL; needs bestserve[providers]")
    sample: StrictFloat = Field(default=0.01, gt=0, le=1, description="share of answers that are judged")
    per_minute: Count = Field(default=30, description="most answers judged in any minute, by each worker")
    spend: Spend = Field(default=EMPTY, description="the most that may be paid; one of the two has to be set where there is a price")
    usd_per_million_input: MaybeUsd = Field(default=None, description="paid for what it is shown; none takes it from LiteLLM's table")
    usd_per_million_output: MaybeUsd = Field(default=None, description="paid for what it says; likewise")
    api_key: Maybe[Word] = Field(default=None, repr=False, description="bearer token; best as `${NAME}`")
    litellm: Table[Word, Option] = Field(default={}, repr=False, description="what else LiteLLM needs for this provider: api_base …")

    @property
    def tariff(self) -> Tariff | None:
        """What is paid by the token, where the config says it."""
        return tariff(self.usd_per_million_input, self.usd_per_million_output, None)


class Key(Section):
    """One caller's key. The key itself is never written down, only its hash."""

    name: Name = Field(description="who calls; unique")
    sha256: str = Field(pattern=SHA256, repr=False, description="hash of the key (`printf %s KEY | sha256sum`); unique")
    tier: Tier = Field(default="default", description="the class: the highest service tier it may have, and the one it has unasked")
    requests_per_minute: Maybe[Count] = Field(default=None, description="most requests a minute, counted by each worker")
    admin: bool = Field(default=False, description="whether it may call the routes under /admin/")


class Log(Section):
    """What the proxy says on its standard error."""

    level: Literal["debug", "info", "warning", "error", "critical"] = Field(default="info", description="the least that is said")


def _or_auto(models: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
    return models or {"auto": tuple(backend.name for backend in info.data.get("backends", ()))}


Models = Annotated[Table[Alias, Annotated[tuple[Name, ...], Field(min_length=1)]], AfterValidator(_or_auto)]


class Config(Section):
    """The whole file."""

    listen: Listen = Field(default=EMPTY, description="where the proxy listens")
    backends: tuple[BackendConfig, ...] = Field(min_length=1, description="the fleet, at least one")
    models: Models = Field(
        default={}, description="which backends a model name lets the policy choose from; when empty, `auto` is all of them"
    )
    default_model: Maybe[Alias] = Field(default=None, description="alias that serves unknown model names; none refuses them")
    budgets: tuple[Cap, ...] = Field(default=NO_CAP, min_length=1, description="caps on the answer that the policy may choose from")
    slo: SLOConfig = Field(default=EMPTY, description="deadlines")
    policy: PolicyConfig = Field(default=EMPTY, description="who decides")
    classify: ClassifyConfig = Field(default=EMPTY, description="how a request's task is told")
    probe: Probe = Field(default=EMPTY, description="how backends are asked how they are")
    timeouts: Timeouts = Field(default=EMPTY, description="how long a backend may take")
    circuit: Circuit = Field(default=EMPTY, description="when a failing backend is left alone")
    replay: Maybe[Replay] = Field(default=None, description="the log of decisions and what came of them; none keeps none")
    judge: Maybe[JudgeConfig] = Field(default=None, description="the model that scores a sample of answers; none asks nobody")
    keys: tuple[Key, ...] = Field(default=(), description="who may call; when empty, everybody")
    state_dir: Folder = Field(default=Path("state"), description="what outlives a restart: the book of what was paid")
    log: Log = Field(default=EMPTY, description="what the proxy says")
    _source: str = ""

    def model_post_init(self, file: Any) -> None:
        """Knowing which file it is from."""
        self._source = file.source

    @property
    def source(self) -> str:
        """The file, as it was named."""
        return self._source

    def facts(self) -> tuple[Backend, ...]:
        """The fleet as the policy knows it."""
        return tuple(backend.facts() for backend in self.backends)

    def slo_for(self, tier: str, task: str | None = None) -> SLO:
        """The deadlines of an answer of this tier (auto is default) and task: the tier's, else the task's, else everybody's."""
        overrides = [self.slo.tiers.get(_tier(tier)), self.slo.tasks.get(task or "")]
        ttft, tpot, e2e, kind = (self._said(name, overrides) for name in ("ttft_ms", "tpot_ms", "e2e_ms", "kind"))
        return SLO(seconds(ttft), seconds(tpot), seconds(e2e), hard=kind == "hard")

    def _said(self, name: str, overrides: list[Deadlines | None]) -> Any:
        said = (override for override in overrides if override is not None and name in override.model_fields_set)
        return getattr(next(said, self.slo), name)

    @property
    def settled(self) -> frozenset[str]:
        """The tiers in which nothing is explored."""
        return frozenset(tier for tier, said in self.slo.tiers.items() if said.explore == "never")

    def may_overflow(self, tier: str) -> bool:
        """Whether a request of this tier (auto is default) may be answered by a backend that is paid for."""
        said = self.slo.tiers.get(_tier(tier))
        return said is None or said.overflow == "allowed"

    def weight_for(self, tier: str) -> float:
        """What an answer on time is worth in this tier (auto is default), relative to the others."""
        said = self.slo.tiers.get(_tier(tier))
        return _WEIGHTS[_tier(tier)] if said is None or said.weight is None else said.weight


def _tier(name: str) -> Any:
    return "default" if name == "auto" else name


def seconds(ms: float | None) -> float | None:
    """A deadline in seconds."""
    return None if ms is None else ms / 1000


# --- the whole --------------------------------------------------------------------------------------------------------


def load(environ: Mapping[str, str], path: Path | str) -> Config:
    """Read a config file. Raises BadConfig."""
    return parse(text_of(path), environ, source=str(path))


def text_of(path: Path | str) -> str:
    """A file's text. Raises BadConfig."""
    try:
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        wrong = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is not UTF-8 text"
        raise BadConfig([Problem(None, "", wrong)], source=str(path)) from error


def parse(text: str, environ: Mapping[str, str], *, source: str) -> Config:
    """Read a config's text; paths in it start at the folder of `source`. Raises BadConfig."""
    file = File(source, environ)
    tree = file.read(text)
    _refuse_litellm(file)
    config = validated(Config, tree, file)
    relate(file)
    if config is None or file.problems:
        raise BadConfig(file.problems, source=source)
    return config


def _refuse_litellm(file: File) -> None:
    """Before every one of its keys is called unknown."""
    if ("model_list",) in file.places:
        message = "this is a LiteLLM config: `bestserve import FILE` prints it as one of ours"
        raise BadConfig([Problem(file.places["model_list",].line, "model_list", message)], source=file.source)


# --- what one key says about another: of the words in the file, so that a mistake elsewhere hides nothing ------------------


def relate(file: File, *, serves: bool = True) -> None:
    """Note what does not fit together. A fleet that is only simulated is nowhere to be reached."""
    backends = file.texts("backends", int, "name")
    budgets = file.texts("budgets", int) | file.texts("budgets", int, "tokens") or {("budgets",): "none"}
    aliases = [str(loc[1]) for loc in file.places if loc[:1] == ("models",) and len(loc) == 2] or ["auto"]
    members = [file.texts("models", alias, int) for alias in aliases]
    hashes = {loc: text.lower() for loc, text in file.texts("keys", int, "sha256").items()}
    for texts in (backends, budgets, *members, file.texts("keys", int, "name"), hashes):
        _unique(texts, file)
    for place in [loc for loc, p in file.places.items() if len(loc) == 2 and loc[0] == "backends" and isinstance(p.value, dict)]:
        if serves:
            _needs(place, file)
        _priced(place, file)
    for loc, name in backends.items():
        if name in aliases:
            file.wrong(loc, f"{name!r} is also an alias in models")
    for loc, name in chain.from_iterable(texts.items() for texts in members):
        _known(loc, name, "backend", backends.values(), file)
    for loc, name in file.texts("default_model").items():
        _known(loc, name, "alias", [*aliases, "none"], file)
    if isinstance(getattr(file.places.get(("judge",)), "value", None), dict):
        _judge(("judge",), file)
    for loc, word in file.texts("policy", "fallback").items():
        _fallback(loc, word, list(backends.values()), list(budgets.values()), file)


def _needs(loc: Loc, file: File) -> None:
    """What a backend needs by its engine; and of a provider, that LiteLLM is there and knows it."""
    engine, model = (_text(file, (*loc, key)) for key in ("engine", "model"))
    if engine == "litellm":
        _provider(loc, model, file)
        if (*loc, "url") in file.places:
            file.wrong((*loc, "url"), "is not for litellm; where it has to be told, set litellm.api_base, with its /v1 if it has one")
        return
    for key in ("url", "profile"):
        if (*loc, key) not in file.places or _text(file, (*loc, key)) == "none":
            file.wrong((*loc, key), "is missing")


def _provider(loc: Loc, model: str | None, file: File) -> None:
    try:
        known = providers.known(model) if model else None
    except ImportError:
        file.wrong((*loc, "engine"), "litellm needs `pip install 'bestserve[providers]'`")
    except ValueError as error:
        file.wrong((*loc, "model"), str(error))
    else:
        if known is not None and known.tariff is None and (*loc, "usd_per_million_input") not in file.places:
            told = f"LiteLLM knows no price of {model!r}: set usd_per_million_input and usd_per_million_output, to 0 if it is free"
            file.wrong((*loc, "model"), told)


def _judge(loc: Loc, file: File) -> None:
    """A judge needs a log for its scores, LiteLLM, a price, and a cap on what is paid."""
    if ("replay",) not in file.places or _text(file, ("replay",)) == "none":
        file.wrong(loc, "needs the replay log, where scores are kept: set replay")
    model, said = _text(file, (*loc, "model")), _text(file, (*loc, "usd_per_million_input"))
    _priced(loc, file)
    try:
        known = providers.known(model) if model else None
    except ImportError:
        file.wrong((*loc, "model"), "needs `pip install 'bestserve[providers]'`")
    except ValueError as error:
        file.wrong((*loc, "model"), str(error))
    else:
        if known is not None and known.tariff is None and said is None:
            file.wrong((*loc, "model"), f"LiteLLM knows no price of {model!r}: set usd_per_million_input and _output, to 0 if free")
        capped = any(_text(file, (*loc, "spend", f"usd_per_{span}")) not in (None, "none") for span in ("hour", "day"))
        free = known is not None and known.tariff == FREE if said in (None, "none") else _costs_nothing(loc, file)
        if not capped and not free:
            file.wrong((*loc, "spend"), "is missing: set usd_per_hour or usd_per_day, the most that may be paid to the judge")


def _costs_nothing(loc: Loc, file: File) -> bool:
    """Whether both prices are written and 0. What is no number is told elsewhere."""
    try:
        return all(float(_text(file, (*loc, f"usd_per_million_{what}")) or "nan") == 0 for what in ("input", "output"))
    except ValueError:
        return False


def _priced(loc: Loc, file: File) -> None:
    """Prices need each other."""
    keys = [f"usd_per_million_{what}" for what in ("input", "output", "cached")]
    said = [key for key in keys if _text(file, (*loc, key)) not in (None, "none")]
    for key in keys[:2]:
        if said and key not in said:
            file.wrong((*loc, key), f"is missing beside {said[0]}")


def _text(file: File, loc: Loc) -> str | None:
    """The single value at a place; `none` where it is empty, None where there is none."""
    return file.texts(*loc).get(loc)


def _unique(texts: Mapping[Loc, str], file: File) -> None:
    first: dict[str, Loc] = {}
    for loc, text in texts.items():
        if first.setdefault(text, loc) != loc:
            file.wrong(loc, f"is the same as {dotted(first[text])}")


def _known(loc: Loc, name: str, what: str, names: Iterable[str], file: File, prefix: str = "") -> None:
    if name not in names:
        file.wrong(loc, f"{name!r} is no {what}{near(name, names, prefix=prefix)}")


def _fallback(loc: Loc, word: str, backends: list[str], budgets: list[str], file: File) -> None:
    kind, _, target = word.partition(":")
    name, at, budget = target.partition("@")
    if kind == "static" and name:
        _known(loc, name, "backend", backends, file, prefix="static:")
        if at and budget not in budgets:
            file.wrong(loc, f"{budget!r} is none of the budgets, which are {', '.join(budgets)}")
    elif word not in FALLBACKS:
        words = (*FALLBACKS, "static:BACKEND")
        file.wrong(loc, f"must be one of {', '.join(words)}, is {shown(file.places[loc].node)}{near(word, words)}")
