"""What is counted, for Prometheus. Every label has a bounded set of values: names come from the config, never from a request.

A request only adds to plain numbers here, since prometheus_client takes ten times as long to add; `flush` hands them over before every
exposition, and once a second for the sake of other processes. Under several worker processes prometheus_client keeps the sums in files
of a folder (PROMETHEUS_MULTIPROC_DIR), which has to be named before this module is imported; `proxy/workers.py` does so.
"""

from bisect import bisect_left
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from bestserve.policy.facts import Backend, Decision, Ending
from bestserve.policy.record import Record
from bestserve.policy.reward import is_on_time, quality

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_PER_TOKEN = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)
_OWN = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1)

TABLE: dict[str, tuple[str, tuple[str, ...], str]] = {
    "gen_ai_server_request_duration_seconds": ("histogram", ("model", "error_type"), "From a request's arrival to the end of its answer."),
    "gen_ai_server_time_to_first_token_seconds": ("histogram", ("model",), "From a request's arrival to the first token of its stream."),
    "gen_ai_server_time_per_output_token_seconds": ("histogram", ("model",), "Between two tokens of a stream, in the mean of an answer."),
    "gen_ai_client_token_usage": ("histogram", ("model", "token_type"), "Tokens of a request as the backend counted them."),
    "bestserve_decisions_total": ("counter", ("backend", "budget", "task"), "Attempts begun, by what was decided."),
    "bestserve_attempts_total": ("counter", ("backend", "ending"), "Attempts ended, by how they ended."),
    "bestserve_shed_total": ("counter", ("reason", "tier"), "Requests that nobody was asked for."),
    "bestserve_slo_total": ("counter", ("met",), "Answers, by whether they met their SLO."),
    "bestserve_quality_served": ("histogram", (), "Expected quality of the answers that arrived whole, by the profiles."),
    "bestserve_inflight": ("gauge", ("backend",), "Attempts open now."),
    "bestserve_decision_seconds": ("histogram", (), "Time that one decision took."),
    "bestserve_overhead_seconds": ("histogram", (), "From a request's arrival until it was on its way to a backend."),
    "bestserve_classify_total": (
        "counter",
        ("how",),
        "Asks, by what told their task: text, prior (no text), off, or failed (then the prior).",
    ),
    "bestserve_classify_info": ("gauge", ("by",), "1 for what reads prompts: compiled code, plain Python, or nobody."),
    "bestserve_classify_seconds": ("histogram", (), "Time that reading one prompt and telling its task took."),
    "bestserve_price": ("gauge", ("backend",), "Reward that a second of the backend is worth at the present demand."),
    "bestserve_replay_records_total": ("counter", (), "Records made."),
    "bestserve_replay_unkept_total": (
        "counter",
        (),
        "Records that the coin dropped, because the log could not keep up; the others say its odds.",
    ),
    "bestserve_replay_lost_total": (
        "counter",
        ("why",),
        "Lines that the replay log has lost: the queue was full, the disk refused, a kill.",
    ),
    "bestserve_replay_bytes_total": ("counter", (), "Bytes written to segments, before they are packed."),
    "bestserve_replay_failing": ("gauge", (), "Processes that cannot write the replay log now."),
    "bestserve_replay_uploads_total": ("counter", ("result",), "Segments uploaded, and attempts that failed."),
    "bestserve_feedback_total": ("counter", ("result",), "Feedback, by what became of it."),
    "bestserve_judge_total": ("counter", ("result",), "Answers of the sample that a judge scores, by what became of it."),
    "bestserve_judge_usd_total": ("counter", (), "Dollars paid to the judge."),
    "bestserve_spend_usd_total": ("counter", ("backend",), "Dollars paid for attempts, as their Records say."),
    "bestserve_spend_window_usd": ("gauge", ("backend", "window"), "Dollars paid and set aside in the last hour or day, by all processes."),
    "bestserve_spend_cap_usd": ("gauge", ("backend", "window"), "The most that may be."),
    "bestserve_policy_info": ("gauge", ("version",), "1 for the policy that decides."),
    "bestserve_policy_fallback_total": ("counter", (), "Decisions that the fallback made because the policy failed."),
    "bestserve_policy_refused_total": ("counter", (), "Checkpoints that could not be used; what decided before, or the fallback, goes on."),
    "bestserve_policy_canary": ("gauge", ("version",), "1 for a policy on trial, which takes turns with the one that decides."),
    "bestserve_policy_canary_reward": ("gauge", ("policy",), "Mean reward of a request in the turns of the old policy and of the new."),
    "bestserve_policy_strange_ratio": (
        "gauge",
        (),
        "Share of the latest requests unlike what the policy on trial was trained on.",
    ),
    "bestserve_policy_rollbacks_total": ("counter", ("reason",), "Trials that ended with a rollback: by their reward, or their range."),
    "bestserve_policy_dir_failing": ("gauge", (), "Processes that cannot read or write the policy directory now."),
    "bestserve_backend_up": ("gauge", ("backend",), "1 when the backend is ready and its circuit closed."),
    "bestserve_backend_load_age_seconds": ("gauge", ("backend",), "Age of the backend's last report of its load."),
}
"""name -> (kind, labels, help). docs/metrics.md is printed from it."""

_SUMMED = ("bestserve_inflight", "bestserve_replay_failing", "bestserve_policy_dir_failing")
"""Gauges that are summed over worker processes."""

_BUCKETS = {
    "gen_ai_server_time_per_output_token_seconds": _PER_TOKEN,
    "gen_ai_client_token_usage": _TOKENS,
    "bestserve_quality_served": tuple(i / 20 for i in range(1, 21)),
    "bestserve_decision_seconds": _OWN,
    "bestserve_classify_seconds": _OWN,
    "bestserve_overhead_seconds": _OWN,
}


TOGETHER = 64
"""Ended attempts that are counted together: the code that counts is warm after the first."""


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._all: dict[str, Any] = {name: _make(name, self.registry) for name in TABLE}
        self._children: dict[tuple[str, ...], Any] = {}
        self._counts: dict[tuple[str, ...], int] = {}  # since the last flush, by name and labels
        self._tallies: dict[tuple[str, ...], _Tally] = {}
        self._ended: list[tuple[Record, float]] = []  # attempts to be counted

    def decided(self, decision: Decision, task: str, decide_s: float, until_s: float) -> None:
        """A decision was made: what it was, the time that it took, and the time since the request's arrival."""
        if not decision.action.shed:
            self._count("bestserve_decisions_total", str(decision.action.backend), decision.action.budget.name, task)
        self._observe(decide_s, "bestserve_decision_seconds")
        self._observe(until_s, "bestserve_overhead_seconds")

    def ended(self, record: Record, duration_s: float) -> None:
        """An attempt is over; `duration_s` is since its request arrived."""
        self._ended.append((record, duration_s))
        if len(self._ended) >= TOGETHER:
            self._count_ended()

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        for record, duration_s in ended:
            self._count_one(record, duration_s)

    def _count_one(self, record: Record, duration_s: float) -> None:
        outcome, decision = record.outcome, record.decision
        self._count("bestserve_replay_records_total")
        if outcome.ending is Ending.SHED:
            return
        backend = next(b for b in record.view.backends if b.name == decision.action.backend)
        self._count("bestserve_attempts_total", str(decision.action.backend), outcome.ending.value)
        if outcome.usd:
            self._child("bestserve_spend_usd_total", backend.name).inc(outcome.usd)
        if outcome.ending is Ending.REFUSED:
            return
        error = "" if outcome.ending is Ending.DONE else outcome.ending.value
        self._observe(duration_s, "gen_ai_server_request_duration_seconds", backend.model, error)
        if outcome.ending is Ending.DONE:
            self._answered(record, backend, duration_s)

    def _answered(self, record: Record, backend: Backend, duration_s: float) -> None:
        outcome, model = record.outcome, backend.model
        if outcome.ttft_s is not None:
            waited = duration_s - outcome.total_s
            self._observe(waited + outcome.ttft_s, "gen_ai_server_time_to_first_token_seconds", model)
            if (outcome.completion_tokens or 0) > 1:
                per_token = (outcome.total_s - outcome.ttft_s) / ((outcome.completion_tokens or 0) - 1)
                self._observe(per_token, "gen_ai_server_time_per_output_token_seconds", model)
        for kind, tokens in (("input", outcome.prompt_tokens), ("output", outcome.completion_tokens)):
            if tokens is not None:
                self._observe(tokens, "gen_ai_client_token_usage", model, kind)
        self._count("bestserve_slo_total", str(is_on_time(outcome, record.ask.slo)).lower())
        self._observe(quality(outcome, record.ask, backend.profile), "bestserve_quality_served")

    def shed(self, reason: str, tier: str) -> None:
        """A request that nobody was asked for."""
        self._count("bestserve_shed_total", reason, tier)

    def classified(self, how: str, took_s: float) -> None:
        """What told an ask's task, and how long it took where a text was read."""
        self._count("bestserve_classify_total", how)
        if how == "text":
            self._observe(took_s, "bestserve_classify_seconds")

    def fell_back(self) -> None:
        """The policy failed and the fallback decided."""
        self._count("bestserve_policy_fallback_total")

    def refused_policy(self) -> None:
        """A checkpoint could not be used."""
        self._count("bestserve_policy_refused_total")

    def rolled_back(self, reason: str) -> None:
        """A policy on trial went."""
        self._count("bestserve_policy_rollbacks_total", reason)

    def judged(self, result: str) -> None:
        """An answer was judged, or why not."""
        self._count("bestserve_judge_total", result)

    def judge_paid(self, usd: float) -> None:
        """For one answer."""
        self._child("bestserve_judge_usd_total").inc(usd)

    def replay_unkept(self) -> None:
        """The coin dropped a Record."""
        self._child("bestserve_replay_unkept_total").inc()

    def replay_lost(self, why: str, n: int) -> None:
        """The replay log lost lines."""
        self._child("bestserve_replay_lost_total", why).inc(n)

    def replay_wrote(self, n_bytes: int) -> None:
        """The replay log grew."""
        self._child("bestserve_replay_bytes_total").inc(n_bytes)

    def replay_failing(self, failing: bool) -> None:
        """The replay log can be written, or not."""
        self._child("bestserve_replay_failing").set(float(failing))

    def replay_uploaded(self, ok: bool) -> None:
        """A segment arrived, or an attempt failed."""
        self._child("bestserve_replay_uploads_total", "arrived" if ok else "failed").inc()

    def feedback(self, result: str) -> None:
        """Feedback was taken, or why not."""
        self._child("bestserve_feedback_total", result).inc()

    def gauge(self, name: str, value: float, *labels: str) -> None:
        """Set one gauge."""
        self._child(name, *labels).set(value)

    def forget(self, name: str, *labels: str) -> None:
        """Drop a series whose label has left the config."""
        if self._children.pop((name, *labels), None) is not None:
            self._all[name].remove(*labels)

    def flush(self) -> None:
        """Hand over what was counted since the last time."""
        self._count_ended()
        for series, n in self._counts.items():
            self._child(*series).inc(n)
        self._counts.clear()
        for series, tally in self._tallies.items():
            self._child(*series).add(tally)
            tally.clear()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes, over all worker processes where there are several."""
        self.flush()
        if values.ValueClass is values.MutexValue:  # one process: nothing is kept in files
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _count(self, *series: str) -> None:
        self._counts[series] = self._counts.get(series, 0) + 1

    def _observe(self, value: float, *series: str) -> None:
        tally = self._tallies.get(series)
        if tally is None:
            tally = self._tallies[series] = _Tally(_BUCKETS.get(series[0], _SECONDS))
        tally.counts[bisect_left(tally.bounds, value)] += 1
        tally.total += value

    def _child(self, name: str, *labels: str) -> Any:
        child = self._children.get((name, *labels))
        if child is None:
            metric = self._all[name]
            child = self._children[name, *labels] = metric.labels(*labels) if labels else metric
        return child


class _Tally:
    """What was observed since the last flush: how often, by bucket, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.clear()

    def clear(self) -> None:
        self.counts, self.total = [0] * (len(self.bounds) + 1), 0.0


class _Histogram(Histogram):
    """One that takes many observations at once."""

    def add(self, tally: _Tally) -> None:
        self._sum.inc(tally.total)
        for bucket, n in zip(self._buckets, tally.counts, strict=True):
            if n:
                bucket.inc(n)


def _make(name: str, registry: CollectorRegistry) -> Any:
    kind, labels, text = TABLE[name]
    if kind == "counter":
        return Counter(name.removesuffix("_total"), text, labels, registry=registry)
    if kind == "gauge":
        mode = "livesum" if name in _SUMMED else "livemostrecent"
        return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
    return _Histogram(name, text, labels, registry=registry, buckets=_BUCKETS.get(name, _SECONDS))
