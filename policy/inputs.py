"""(Seen, features) -> what a network reads: rows over the A actions, Shed last, and one context. All of it without units.

Every number is a ratio, a share or the logarithm of a ratio, bounded, so that weights trained on one fleet mean the same on another of
other sizes, speeds and deadlines.
"""

import math

import numpy as np

from .encode import (
    HARM,
    LATENCY,
    LOAD,
    N_FEATURES,
    P_ON_TIME,
    P_WHOLE,
    PAY,
    PRICE,
    QUALITY,
    TOKENS,
    TPOT,
    TTFT,
    WORK,
    Seen,
)
from .facts import Floats
from .numeric import Column, Flags, numeric

INPUTS = 2
"""Version of this file's arithmetic. A checkpoint is of one version."""

ROW = (
    "asks",  # 1; 0 for Shed
    "quality",
    "p_on_time",
    "worth",  # quality on time
    "worth_gap",  # to the best one's
    "cost",  # price of the work and what is paid, in answers of quality 1
    "score",  # worth less cost
    "score_gap",  # to the best one's
    "first",  # log of predicted first token / its deadline
    "each",  # the same of a token
    "whole",  # the same of the answer
    "p_whole",
    "tokens",  # log of expected tokens
    "work",  # log of work / the least work of any action
    "load",
    "backlog",  # time to read the prompts ahead / deadline of the first token
    "memory",  # share of the context that is held
    "pace_first",
    "pace_each",
    "age",  # of the last report
    "told",
    "cached",  # share of the prompt that is expected in the prefix cache
    "harm",  # reward there that is expected to be lost by it, in answers of quality 1 and its own weight
)
N_ROW = len(ROW)

CONTEXT = (
    "demand_most",  # log of the rate / what the fleet could do if every answer took its most work
    "demand_least",  # the same if each took its least
    "backends",  # log of how many
    "usable",  # share of them
    "weight",  # log
    "least_load",
    "mean_load",
    "most_load",
    "mean_cost",
    "best_score",
    "prompt",  # log of prompt / expected answer
    "spread",  # sigma of the length
)
N_CONTEXT = len(CONTEXT)

FAR = 3.0
"""Beyond so many e-folds, or so many times a limit, more is no different."""


@numeric
def rows_of(seen: Seen, x: Column, mask: Flags) -> Floats:
    """(A, N_ROW) from the features ((A - 1) * N_FEATURES,) and the mask (A,)."""
    n, k = len(mask) - 1, len(seen.caps.tokens)
    rows = np.zeros((n + 1, N_ROW))
    if n == 0:
        return rows
    f = np.asarray(x).reshape((n, N_FEATURES))
    allowed = np.asarray(mask)[:n]
    worth = f[:, QUALITY] * f[:, P_ON_TIME]
    cost = (f[:, PRICE] * f[:, WORK] + f[:, PAY]) / seen.asked.weight
    score = worth - cost
    fleet, c = seen.fleet, seen.constants
    rows[:n, 0] = 1.0
    rows[:n, 1] = f[:, QUALITY]
    rows[:n, 2] = f[:, P_ON_TIME]
    rows[:n, 3] = worth
    rows[:n, 4] = worth - best_of(worth, allowed)
    rows[:n, 5] = np.minimum(cost, FAR)
    rows[:n, 6] = np.maximum(score, -FAR)
    rows[:n, 7] = np.maximum(score - best_of(score, allowed), -FAR)
    rows[:n, 8] = against(f[:, TTFT], seen.asked.ttft_s)
    rows[:n, 9] = against(f[:, TPOT], seen.asked.tpot_s)
    rows[:n, 10] = against(f[:, LATENCY], seen.asked.e2e_s)
    rows[:n, 11] = f[:, P_WHOLE]
    rows[:n, 12] = np.log(f[:, TOKENS]) / 8.0
    rows[:n, 13] = np.minimum(np.log(f[:, WORK] / np.maximum(f[:, WORK].min(), 1e-9)), FAR)
    rows[:n, 14] = np.minimum(f[:, LOAD], FAR)
    rows[:n, 22] = np.minimum(f[:, HARM] / seen.asked.weight, FAR)
    for b in range(len(seen.able)):
        here = slice(b * k, b * k + k)
        rows[here, 15] = min(fleet.prefill_tokens[b] / c.prefill_rate[b] / min(seen.asked.ttft_s, 10.0), FAR)
        rows[here, 16] = min(fleet.kv_tokens[b] / c.kv_capacity[b], FAR)
        rows[here, 17] = math.log(fleet.pace_first[b])
        rows[here, 18] = math.log(fleet.pace_each[b])
        rows[here, 19] = math.tanh(fleet.report_age_s[b] / 2.0)
        rows[here, 21] = seen.cached[b] / max(seen.asked.prompt, 1.0)
        for j in range(k):
            rows[b * k + j, 20] = 1.0 if seen.caps.told[j] else 0.0
    return rows


@numeric
def context_of(seen: Seen, rows: Floats, x: Column, mask: Flags) -> Floats:
    """(N_CONTEXT,) beside the rows of the same request."""
    context = np.zeros(N_CONTEXT)
    n, n_backends, k = len(mask) - 1, len(seen.able), len(seen.caps.tokens)
    context[4] = math.log(seen.asked.weight)
    context[11] = seen.asked.sigma
    if n == 0:
        return context
    f = np.asarray(x).reshape((n, N_FEATURES))
    most, least, usable = 0.0, 0.0, 0.0
    for b in range(n_backends):
        work = f[b * k : b * k + k, WORK]
        most += 1.0 / max(work.max(), 1e-9)
        least += 1.0 / max(work.min(), 1e-9)
        usable += 1.0 if seen.fleet.usable[b] else 0.0
    rate = max(seen.fleet.arrival_rate, 1e-3)
    context[0] = min(max(math.log(rate / most), -FAR), FAR)
    context[1] = min(max(math.log(rate / least), -FAR), FAR)
    context[2] = math.log(n_backends) / FAR
    context[3] = usable / n_backends
    context[5], context[6], context[7] = rows[:n, 14].min(), rows[:n, 14].mean(), rows[:n, 14].max()
    context[8] = rows[:n, 5].mean()
    context[9] = best_of(rows[:n, 6], np.asarray(mask)[:n])
    context[10] = min(max(math.log(max(seen.asked.prompt, 1.0) / f[:, TOKENS].max()), -FAR), FAR)
    return context


@numeric
def best_of(values: Floats, allowed: Floats) -> float:
    """The largest of those that are allowed; 0 when none is."""
    best = -math.inf
    for i in range(len(values)):
        if allowed[i]:
            best = max(best, values[i])
    return best if best > -math.inf else 0.0


@numeric
def against(predicted: Floats, deadline: float) -> Floats:
    """Logs of predicted times / a deadline, bounded; the least where none binds."""
    if deadline == math.inf:
        return np.full(len(predicted), -FAR)
    bounded: Floats = np.minimum(np.maximum(np.log(predicted / deadline), -FAR), FAR)
    return bounded
