"""What a profile is: the measured facts about one kind of backend (a model on a GPU under an engine).

A profile file is TOML. Every number may be written bare or as a table that says where it comes from:

    step_fixed_s = { value = 0.0071, source = "QwenLM/Qwen3 speed benchmark", how = "fitted", error = 0.08 }

`how` is one of HOWS; `error` is a relative one-sigma error where one is known. Parsing keeps the numbers as plain floats in
frozen dataclasses and the provenance beside them in `Profile.sources`, keyed by the dotted path ("engine.step_fixed_s").
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

TASKS = ("code", "math", "qa", "extract", "summ", "rewrite", "translate", "write", "classify", "chat")
"""What kind of work a prompt is. The order is the order of every vector over tasks."""

HOWS = ("measured", "fitted", "published", "interpolated", "assumed")

SCHEMA = 1


class BadProfile(ValueError):
    """A profile that cannot be used; the message names the key and, for an unknown key, the nearest right one."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The constants of one backend's continuous batching. Seconds, tokens, sequences.

    A prefill batch of T uncached prompt tokens takes `prefill_fixed_s + T / prefill_tokens_per_s`;
    a decode step of n sequences over k tokens of context takes
    `step_fixed_s + n * step_per_seq_s + k * step_per_kv_token_s` and gives each sequence one token.
    """

    prefill_tokens_per_s: float  # uncached prompt tokens a second, > 0
    prefill_fixed_s: float  # time of a prefill batch of no tokens, >= 0
    step_fixed_s: float  # time of a decode step of no sequences, > 0
    step_per_seq_s: float  # added per running sequence, >= 0
    step_per_kv_token_s: float  # added per token of context over all running sequences, >= 0
    max_running: int  # sequences that decode together, >= 1
    kv_tokens: int  # tokens of context that fit in memory, >= 1
    context: int  # longest prompt plus answer of one request, >= 1
    prefill_batch_tokens: int  # most uncached prompt tokens in one prefill batch, >= 1
    max_queued: int | None = None  # requests that may wait; None is without limit

    def step_s(self, n_seqs: float, kv_tokens: float) -> float:
        """Seconds of one decode step of `n_seqs` sequences over `kv_tokens` tokens of context."""
        return self.step_fixed_s + n_seqs * self.step_per_seq_s + kv_tokens * self.step_per_kv_token_s

    def prefill_s(self, tokens: float) -> float:
        """Seconds of one prefill batch of `tokens` uncached prompt tokens."""
        return self.prefill_fixed_s + tokens / self.prefill_tokens_per_s


@dataclass(frozen=True, slots=True)
class Source:
    """Where one number comes from."""

    source: str  # the publication, or the command that measured it
    how: str  # one of HOWS
    error: float | None = None  # relative one-sigma error, where known


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything we believe about one kind of backend before we have met it."""

    name: str  # the file's name without .toml
    model: str  # as the engine serves it, e.g. "Qwen/Qwen3-8B"
    params_b: float  # billions of parameters
    gpu: str  # e.g. "H100-80GB", or "cpu"
    n_gpus: int
    engine: Engine
    quality: Mapping[str, float]  # task -> expected quality of an uncut answer, in [0, 1]; every task of TASKS
    usd_per_hour: float | None = None
    capabilities: frozenset[str] = frozenset()
    sources: Mapping[str, Source] = field(default_factory=dict, hash=False)


_TOP = ("schema", "name", "model", "params_b", "gpu", "n_gpus", "usd_per_hour", "capabilities", "engine", "quality")


def parse(mapping: Mapping[str, Any], *, name: str | None = None) -> Profile:
    """Read a profile from a parsed TOML mapping. Raises BadProfile naming the key."""
    _known(mapping, _TOP, "")
    if mapping.get("schema", SCHEMA) != SCHEMA:
        raise BadProfile(f"schema: {mapping['schema']!r} is not {SCHEMA}, the one this version reads")
    sources: dict[str, Source] = {}
    return Profile(
        name=name or _text(mapping, "name"),
        model=_text(mapping, "model"),
        params_b=_positive(mapping, "params_b", "", sources),
        gpu=_text(mapping, "gpu"),
        n_gpus=_whole("n_gpus", _positive(mapping, "n_gpus", "", sources)),
        usd_per_hour=_number(mapping, "usd_per_hour", "", sources) if "usd_per_hour" in mapping else None,
        capabilities=_texts(mapping, "capabilities"),
        engine=_engine(_table(mapping, "engine"), sources),
        quality=_quality(_table(mapping, "quality"), sources),
        sources=sources,
    )


def _engine(table: Mapping[str, Any], sources: dict[str, Source]) -> Engine:
    names = tuple(f.name for f in fields(Engine))
    _known(table, names, "engine.")
    values: dict[str, Any] = {}
    for name in names:
        if name == "max_queued" and name not in table:
            continue
        value = _number(table, name, "engine.", sources)
        if name in _STRICT and value <= 0:
            raise BadProfile(f"engine.{name}: must be greater than 0, is {value}")
        values[name] = _whole(f"engine.{name}", value) if name in _WHOLE else value
    return Engine(**values)


_WHOLE = {"max_running", "kv_tokens", "context", "prefill_batch_tokens", "max_queued"}
_STRICT = (_WHOLE - {"max_queued"}) | {"prefill_tokens_per_s", "step_fixed_s"}


def _quality(table: Mapping[str, Any], sources: dict[str, Source]) -> dict[str, float]:
    _known(table, TASKS, "quality.")
    scores = {task: _number(table, task, "quality.", sources) for task in TASKS}
    for task, score in scores.items():
        if score > 1:
            raise BadProfile(f"quality.{task}: must be in [0, 1], is {score}")
    return scores


def _known(table: Mapping[str, Any], names: tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            raise BadProfile(f"{prefix}{key}: unknown key" + (f"; did you mean {prefix}{near[0]}?" if near else ""))


def _table(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = mapping.get(key)
    if not isinstance(value, Mapping):
        raise BadProfile(f"{key}: must be a table")
    return value


def _text(mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    if not isinstance(value, str) or not value:
        raise BadProfile(f"{key}: must be a text that is not empty")
    return value


def _texts(mapping: Mapping[str, Any], key: str) -> frozenset[str]:
    """A list of texts; a bare text is refused, for its letters would pass as a list."""
    value = mapping.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise BadProfile(f"{key}: must be a list of texts, is {value!r}")
    return frozenset(value)


def _whole(path: str, value: float) -> int:
    if not value.is_integer():
        raise BadProfile(f"{path}: must be a whole number, is {value}")
    return int(value)


def _positive(mapping: Mapping[str, Any], key: str, prefix: str, sources: dict[str, Source]) -> float:
    value = _number(mapping, key, prefix, sources)
    if value <= 0:
        raise BadProfile(f"{prefix}{key}: must be greater than 0, is {value}")
    return value


def _number(mapping: Mapping[str, Any], key: str, prefix: str, sources: dict[str, Source]) -> float:
    """A number >= 0, bare or as a table with its source."""
    path = prefix + key
    if key not in mapping:
        raise BadProfile(f"{path}: is missing")
    raw = mapping[key]
    if isinstance(raw, Mapping):
        sources[path] = _source(raw, path)
        raw = raw["value"]
    return _at_least_0(raw, path)


def _at_least_0(raw: object, path: str) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw < float("inf"):
        raise BadProfile(f"{path}: must be a number of at least 0, is {raw!r}")
    return float(raw)


def _source(raw: Mapping[str, Any], path: str) -> Source:
    _known(raw, ("value", "source", "how", "error"), path + ".")
    if "value" not in raw:
        raise BadProfile(f"{path}.value: is missing")
    if raw.get("how") not in HOWS:
        raise BadProfile(f"{path}.how: must be one of {', '.join(HOWS)}, is {raw.get('how')!r}")
    source = raw.get("source")
    if not isinstance(source, str) or not source:
        raise BadProfile(f"{path}.source: must be a text that is not empty")
    error = _at_least_0(raw["error"], path + ".error") if "error" in raw else None
    return Source(source=source, how=raw["how"], error=error)
