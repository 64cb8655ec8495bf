"""What no policy can beat: upper bounds on the mean reward of a workload, from linear programs over what truly arrives.

The least work. A step is shared by whoever is in it, so each sequence can be charged a part of its time such that the parts never come
to more than the step. Of a prefill step, which reads at most `batch_tokens` tokens: tokens * (1 / prefill_rate + prefill_fixed /
batch_tokens). Of a decode step, in which at most `max_running` sequences hold at most `kv_tokens` tokens: step_per_seq + context *
step_per_kv, and of step_fixed either 1 / max_running or context / kv_tokens. Both are true at once; for each backend the one that says
more over the whole workload is used. W[i, a] is what request i is charged under action a: all of it falls between its arrival and its
deadline if it is on time.

The fastest step. Alone on a backend, a request's first token takes no less than its prompt's reading, and each further one a step of
one sequence. Where even that misses a deadline the action is worth nothing. An answer is complete, at the latest, ttft + tpot *
(tokens - 1) after its arrival, or e2e.

The program. Time is cut into bins of `width` seconds; arrivals are moved down and deadlines up to the edge of a bin. With y the share
of request i that is given to action a (all of it, or nothing, in truth), and u the work on b of requests with one window, by bin:

    max   sum_i shed_i + (value[i, a] - shed_i) y[i, a]       sum_a y[i, a] <= 1
    with  sum_{i, a in (b, window)} W[i, a] y[i, a] = sum_{bin in window} u[b, window, bin]
          sum_window u[b, window, bin] <= width               its dual is the price p[b, bin] of a second of b then

Every on-time schedule of a simulation is a point of it that earns no less: what is late, broken or shed earns at most `shed`.

The bound. By weak duality any prices p >= 0 give one:

    width * sum p + sum_i max(shed_i, max_a value[i, a] - W[i, a] * min_{bin in window(i, a)} p[b, bin])

So prices are found by HiGHS on a sample of the requests, each standing for several, with coarse windows; the bound is then taken over all
of them with their own windows, and holds however good the sample was. Soft deadlines count as none. The fluid bound is the same with a
single bin, where latency does not count.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, vstack

from bestserve.policy.encode import TOLD_SHARE
from bestserve.policy.facts import BRIEF, BRIEF_LENGTH, CUT, KNOWN, WHOLE, Floats, Ints, Mask
from bestserve.policy.policies import Mind
from bestserve.policy.scene import Places, scene_of
from bestserve.policy.simulate import Scene, Setting, Trace

from .run import AFTER_S

SAMPLE = 3000
"""Requests that prices are found from."""

BINS = 80
"""Of time, at most."""

LEAST_WIDTH_S = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Upper bounds on the mean reward over all requests."""

    fluid: float
    clairvoyant: float


class Offers(NamedTuple):
    """What every action would be to every request: (N, A - 1) each unless said."""

    value: Floats  # on time, less what is paid
    work: Floats  # least backend-seconds
    ends: Floats  # the latest instant at which it is complete and on time
    possible: Mask  # alone on the backend it is on time
    shed: Floats  # (N,)
    at: Floats  # (N,)


def bounds(places: Places, trace: Trace, setting: Setting | None = None, *, sample: int = SAMPLE) -> Bounds:
    """What no policy can beat on this trace, which holds somebody."""
    offers, n, end = offers_of(places, trace, setting or Setting()), len(trace.at), float(trace.at[-1]) + AFTER_S
    width = max(end / BINS, LEAST_WIDTH_S)
    timely = offers._replace(value=np.where(offers.possible, offers.value, -np.inf))
    whenever = offers._replace(ends=np.full_like(offers.ends, end))
    fluid = _bound(whenever, len(places.backends), end, end, sample) / n
    return Bounds(fluid, min(_bound(timely, len(places.backends), width, end, sample) / n, fluid))


def offers_of(places: Places, trace: Trace, setting: Setting) -> Offers:
    """See Offers."""
    scene = scene_of(places, trace, Mind.of("random"), np.random.default_rng(0), setting)
    columns = [_offer(scene, b, k) for b in range(len(places.backends)) for k in range(len(places.budgets))]
    value, work, packed, ends, possible = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
    for b in range(len(places.backends)):
        own = slice(b * len(places.budgets), (b + 1) * len(places.budgets))
        if packed[:, own].sum() > work[:, own].sum():
            work[:, own] = packed[:, own]
    return Offers(value, work, ends, possible, trace.weight * setting.shed_worth, trace.at)


def _offer(scene: Scene, b: int, k: int) -> tuple[Floats, ...]:
    """(value, work by places, work by memory, ends, possible) of one backend and budget, (N,) each."""
    trace, truth, limits = scene.trace, scene.truth, scene.limits
    tokens, value = _answers(scene, b, k)
    cached = np.floor(np.minimum(trace.shared, trace.prompt - 1) * (1.0 - limits.cached_cost[b]) + 0.5)
    unread, steps = trace.prompt - cached, tokens - 1.0
    context = steps * trace.prompt + tokens * steps / 2.0  # read by all its steps together
    reading = unread * (1.0 / limits.prefill_rate[b] + limits.prefill_fixed[b] / limits.batch_tokens[b])
    saying = steps * limits.step_per_seq[b] + context * limits.step_per_kv[b]
    by_place = reading + saying + steps * limits.step_fixed[b] / limits.max_running[b]
    by_memory = reading + saying + context * limits.step_fixed[b] / limits.kv_tokens[b]
    first = unread / limits.prefill_rate[b] + limits.prefill_fixed[b] + truth.overhead[b]
    alone = saying + steps * limits.step_fixed[b]
    hard = trace.hard.astype(bool)
    allowed = np.minimum(trace.e2e_s, trace.ttft_s + np.where(steps > 0, trace.tpot_s * np.maximum(steps, 1.0), 0.0))
    ends = np.where(hard, trace.at + allowed - truth.overhead[b], np.inf)
    late = (first > trace.ttft_s) | (alone > trace.tpot_s * np.maximum(steps, 1.0)) | (first + alone > trace.e2e_s)
    return value, by_place, by_memory, ends, ~(late & hard)


def _answers(scene: Scene, b: int, k: int) -> tuple[Floats, Floats]:
    """Tokens that are said, and what the answer is worth on time less what is paid: as `simulate.begin` and `simulate.answered`."""
    trace, truth, cap = scene.trace, scene.truth, scene.caps.tokens[k]
    free, told = trace.tokens * truth.length_factor[b], bool(scene.caps.told[k])
    if told:
        free = free * truth.knowledge[b * KNOWN + BRIEF_LENGTH, trace.task]
        free = np.minimum(free, max(TOLD_SHARE * cap, 1.0)) if np.isfinite(cap) else free
    end = np.minimum(cap, np.maximum(scene.limits.kv_tokens[b] - trace.prompt - 1.0, 1.0))
    tokens: Floats = np.maximum(np.floor(np.minimum(free, np.minimum(end, trace.ceiling))), 1.0)
    cut = (free > end) & (end < trace.ceiling)
    row = b * KNOWN + (BRIEF if told else WHOLE) + np.where(cut, CUT - WHOLE, 0)
    paid = trace.prompt * truth.usd_per_prompt_token[b] + tokens * truth.usd_per_token[b]
    value: Floats = trace.weight * truth.knowledge[row, trace.task] - scene.setting.usd_weight * paid
    return tokens, value


def _bound(offers: Offers, n_backends: int, width: float, end: float, sample: int) -> float:
    """On the sum of rewards."""
    n_bins = int(np.ceil(end / width - 1e-9))
    first = np.minimum((offers.at / width).astype(np.int64), n_bins - 1)
    last = np.minimum(np.ceil(np.minimum(offers.ends, end) / width - 1e-12).astype(np.int64) - 1, n_bins - 1)
    last = np.maximum(last, first[:, None])
    price = _prices(offers, first, last, n_backends, width, n_bins, sample)
    return float(width * price.sum() + _best(offers, first, last, price).sum())


def _best(offers: Offers, first: Ints, last: Ints, price: Floats) -> Floats:
    """What each request earns at most at these prices (B, T), (N,)."""
    cheapest = np.full((*price.shape, price.shape[1]), np.inf)  # (B, first, last)
    for start in range(price.shape[1]):
        cheapest[:, start, start:] = np.minimum.accumulate(price[:, start:], axis=1)
    n_budgets = offers.work.shape[1] // len(price)
    backend = np.repeat(np.arange(len(price)), n_budgets)
    earned: Floats = np.maximum(offers.shed, (offers.value - offers.work * cheapest[backend[None], first[:, None], last]).max(axis=1))
    return earned


def _prices(offers: Offers, first: Ints, last: Ints, n_backends: int, width: float, n_bins: int, sample: int) -> Floats:
    """Of a second of each backend in each bin, (B, T): the duals of the program over a sample."""
    n, a = offers.work.shape
    chosen = np.unique(np.linspace(0, n - 1, min(n, sample)).astype(np.int64))
    each = n / len(chosen)
    gain = offers.value[chosen] - offers.shed[chosen, None]
    row, action = np.nonzero(gain > 0.0)
    if not len(row):
        return np.zeros((n_backends, n_bins))
    i, backend = chosen[row], action // (a // n_backends)
    start, stop = first[i], np.minimum(_coarse(last[i, action] - first[i]) + first[i], n_bins - 1)
    window, group = np.unique(np.stack((backend, start, stop)), axis=1, return_inverse=True)
    group = group.reshape(-1)
    n_y, spans = len(row), window[2] - window[1] + 1
    owner = np.repeat(np.arange(len(spans)), spans)  # of each u
    bins = np.arange(len(owner)) - np.repeat(np.cumsum(spans) - spans, spans) + window[1, owner]
    y, u = np.arange(n_y), n_y + np.arange(len(owner))
    used, place = np.unique(window[0, owner] * n_bins + bins, return_inverse=True)
    shape = n_y + len(owner)
    taken = _matrix(np.ones(n_y), row, y, len(chosen), shape)
    spent = _matrix(np.ones(len(owner)), place.reshape(-1), u, len(used), shape)
    done = _matrix(
        np.concatenate((each * offers.work[i, action], -np.ones(len(owner)))),
        np.concatenate((group, owner)),
        np.concatenate((y, u)),
        len(spans),
        shape,
    )
    solved = _solve(np.concatenate((each * gain[row, action], np.zeros(len(owner)))), (taken, spent), done, len(chosen), len(used), width)
    price = np.zeros(n_backends * n_bins)
    if solved is not None:
        price[used] = np.maximum(-solved[len(chosen) :], 0.0)
    return price.reshape(n_backends, n_bins)


def _solve(gain: Floats, rows: tuple[Any, Any], done: Any, n_taken: int, n_spent: int, width: float) -> Floats | None:
    """Marginals of the inequalities; None when HiGHS does not come to an end, and then prices are zero and the bound is a poor one."""
    found = linprog(
        -gain,
        A_ub=vstack(rows).tocsr(),
        b_ub=np.concatenate((np.ones(n_taken), np.full(n_spent, width))),
        A_eq=done,
        b_eq=np.zeros(done.shape[0]),
        method="highs",
        options={"time_limit": 120.0},
    )
    marginals: Floats | None = found.ineqlin.marginals if found.status == 0 else None
    return marginals


def _matrix(values: Floats, row: Ints, column: Ints, n_rows: int, n_columns: int) -> Any:
    return coo_matrix((values, (row, column)), shape=(n_rows, n_columns)).tocsr()


def _coarse(bins: Ints) -> Ints:
    """Spans rounded up to few different ones: the sample's windows, not those of the bound."""
    steps = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 1 << 30])
    rounded: Ints = steps[np.searchsorted(steps, bins)]
    return rounded
