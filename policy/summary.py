"""What a simulation came to, in the figures that policies are compared by."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .facts import KNOWN, Action, Floats, knowledge_of
from .scene import Places
from .simulate import DONE, SHED, Results, Trace

WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy on one workload. Shares are of requests."""

    requests: int
    reward: float  # mean over requests
    quality: float  # served on time, mean over requests: what a shed, late or broken one brings is 0
    on_time: float  # share
    shed: float  # share
    windows_96: float  # share of 10 s windows whose quality is at least 96 % of peak
    windows_98: float
    ttft_p50_s: float
    ttft_p99_s: float
    latency_p50_s: float
    latency_p99_s: float
    actions: dict[str, float]  # share of each action

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def summary(results: Results, trace: Trace, places: Places, actions: Sequence[Action]) -> Summary:
    """The figures. Peak is the quality of the best model, nothing cut, everything on time."""
    ending = np.asarray(results.ending)
    done = ending == DONE
    served = np.where(results.on_time, results.quality, 0.0)
    windows = window_quality(trace, served, peak_quality(trace, places))
    times = [np.quantile(values[done], q) if done.any() else np.nan for values in (results.ttft_s, results.total_s) for q in (0.5, 0.99)]
    shares = np.bincount(results.action, minlength=len(actions)) / max(len(trace.at), 1)
    return Summary(
        requests=len(trace.at),
        reward=float(np.mean(results.reward)),
        quality=float(np.mean(served)),
        on_time=float(np.mean(results.on_time)),
        shed=float(np.mean(ending == SHED)),
        windows_96=float(np.mean(windows >= 0.96)),
        windows_98=float(np.mean(windows >= 0.98)),
        ttft_p50_s=float(times[0]),
        ttft_p99_s=float(times[1]),
        latency_p50_s=float(times[2]),
        latency_p99_s=float(times[3]),
        actions={name_of(action): float(share) for action, share in zip(actions, shares, strict=True) if share},
    )


def name_of(action: Action) -> str:
    """`small@384`, `large@none` or `shed`."""
    return "shed" if action.shed else f"{action.backend}@{action.budget.name}"


def peak_quality(trace: Trace, places: Places) -> Floats:
    """Of each request, (N,): the true quality of a whole answer from the backend that is best at its task."""
    true = places.true or tuple(backend.profile for backend in places.backends)
    backends = [replace(backend, profile=profile) for backend, profile in zip(places.backends, true, strict=True)]
    knowledge = knowledge_of(backends)[::KNOWN]
    peak: Floats = knowledge.max(axis=0)[trace.task]
    return peak


def window_quality(trace: Trace, served: Floats, peak: Floats) -> Floats:
    """Quality served / peak in each window of WINDOW_S in which somebody arrived."""
    window = (np.asarray(trace.at) // WINDOW_S).astype(np.int64)
    got, best = np.bincount(window, weights=served), np.bincount(window, weights=peak)
    share: Floats = got[best > 0] / best[best > 0]
    return share
