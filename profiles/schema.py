"""What a profile is: the measured facts about one kind of backend (a model on a GPU under an engine).

A profile file is TOML. Every number may be written bare or as a table that says where it comes from:

    step_fixed_s = { value = 0.0071, source = "QwenLM/Qwen3 speed benchmark", how = "fitted", error = 0.08 }

`how` is one of HOWS; `error` is a relative one-sigma error where one is known. A source that many numbers share may stand once,
in the table `references`, under a short name that the numbers give as their source. Parsing keeps the numbers as plain floats in
frozen dataclasses and the provenance beside them in `Profile.sources`, keyed by the dotted path ("engine.step_fixed_s").
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from .answers import Answers, BudgetEffect, read_budget_effect, read_lengths, read_shares, usual_lengths
from .numbers import HOWS, BadProfile, Reader, Source
from .tasks import TASKS

__all__ = ["HOWS", "SCHEMA", "TASKS", "Answers", "BadProfile", "BudgetEffect", "Engine", "Profile", "Source", "parse"]

SCHEMA = 1


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
    overhead_s: float = 0.0  # what a request takes beside the engine's own time (HTTP, template, tokens), and delays nobody else, >= 0
    prefill_cached_cost: float = 0.0  # share of an uncached prompt token's prefill time that a prefix-cached one costs, in [0, 1]

    def step_s(self, n_seqs: float, kv_tokens: float) -> float:
        """Seconds of one decode step of `n_seqs` sequences over `kv_tokens` tokens of context."""
        return self.step_fixed_s + n_seqs * self.step_per_seq_s + kv_tokens * self.step_per_kv_token_s

    def prefill_s(self, tokens: float) -> float:
        """Seconds of one prefill batch of `tokens` uncached prompt tokens."""
        return self.prefill_fixed_s + tokens / self.prefill_tokens_per_s


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
    lengths: Mapping[str, Answers] = field(default_factory=usual_lengths)  # task -> answers nobody limits; every task of TASKS
    budget_effect: BudgetEffect = field(default_factory=BudgetEffect)
    quality_thinking: Mapping[str, float] = field(default_factory=dict)  # task -> quality after long thinking, where known
    lengths_thinking: Mapping[str, Answers] = field(default_factory=dict)  # task -> thoughts and answer together, where known


_TOP = tuple(f.name for f in fields(Profile) if f.name != "sources")
_SHARES = {"prefill_cached_cost"}
_WHOLE = {"max_running", "kv_tokens", "context", "prefill_batch_tokens"}
_POSITIVE = {"prefill_tokens_per_s", "step_fixed_s"}


def parse(mapping: Mapping[str, Any], *, name: str | None = None) -> Profile:
    """Read a profile from a parsed TOML mapping. Raises BadProfile naming the key."""
    top = Reader(mapping, references=_references(mapping)).only(("schema", "references", *_TOP))
    if mapping.get("schema", SCHEMA) != SCHEMA:
        raise BadProfile(f"schema: {mapping['schema']!r} is not {SCHEMA}, the one this version reads")
    return Profile(
        name=name or top.text("name"),
        model=top.text("model"),
        params_b=top.positive("params_b"),
        gpu=top.text("gpu"),
        n_gpus=top.whole("n_gpus"),
        usd_per_hour=top.number("usd_per_hour") if "usd_per_hour" in top else None,
        capabilities=top.texts("capabilities"),
        engine=_engine(top.at("engine")),
        quality=_quality(top.at("quality")),
        lengths={**usual_lengths(), **read_lengths(top.at("lengths", optional=True))},
        budget_effect=read_budget_effect(top.at("budget_effect", optional=True)),
        quality_thinking=read_shares(top.at("quality_thinking", optional=True)),
        lengths_thinking=read_lengths(top.at("lengths_thinking", optional=True)),
        sources=top.sources,
    )


def _references(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Short name -> source."""
    table = Reader(mapping).at("references", optional=True)
    return {name: table.text(name) for name in table.table}


def _engine(reader: Reader) -> Engine:
    reader.only(f.name for f in fields(Engine))
    values: dict[str, Any] = {f.name: _constant(reader, f.name) for f in fields(Engine) if f.name in reader or f.default is MISSING}
    return Engine(**values)


def _constant(reader: Reader, name: str) -> float:
    if name in _WHOLE:
        return reader.whole(name)
    if name == "max_queued":
        return reader.whole(name, least=0)
    if name in _SHARES:
        return reader.share(name)
    return reader.positive(name) if name in _POSITIVE else reader.number(name)


def _quality(reader: Reader) -> dict[str, float]:
    reader.only(TASKS)
    return {task: reader.share(task) for task in TASKS}
