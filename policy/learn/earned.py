"""What attempts of a log earned, by what is believed of the backends now: `reward.reward`, over columns."""

from collections.abc import Sequence

import numpy as np

from bestserve.policy.facts import TASKS, Backend, Floats
from bestserve.policy.reward import Objective

from .logged import DONE, SHED, Logged, Names

USUAL = Objective()


def earned(log: Logged, names: Names, task: Floats, backends: Sequence[Backend], objective: Objective = USUAL) -> Floats:
    """The reward (N,) of each attempt. `task` (N, T) are the probabilities that quality is expected over. An attempt at a backend that the
    fleet does not have any more earned what its kind would: nothing is known of it, so nothing."""
    tables = {backend.name: _tables(backend) for backend in backends}
    blank = np.zeros((3, len(TASKS)))
    known = np.array([tables.get(name, blank) for name in names.backends] or [blank])[log.backend]  # (N, 3, T)
    kept = np.where(log.told[:, None], known[:, 1], 1.0) * np.where(log.cut[:, None], known[:, 2], 1.0)
    quality = (task * known[:, 0] * kept).sum(axis=1)
    late = lateness(log)
    soft = np.exp(-np.maximum(late, 0.0) / objective.soft_s)
    worth = np.where(late <= 0.0, 1.0, np.where(log.hard, 0.0, soft))
    answered = np.where(log.ending == DONE, log.weight * quality * worth, 0.0) - log.usd_weight * log.usd
    return np.where(log.ending == SHED, log.weight * objective.shed, answered)


def lateness(log: Logged) -> Floats:
    """The worst relative overrun of a deadline (N,), as `reward.late_by`."""
    tokens = np.nan_to_num(log.tokens)
    whole = log.took / log.e2e_slo - 1.0
    allowed = log.ttft_slo + np.multiply(log.tpot_slo, tokens, where=tokens > 0, out=np.zeros_like(tokens))  # inf times 0 is nothing
    unseen = np.maximum(whole, log.took / allowed - 1.0)
    each = np.where(tokens > 1, (log.took - log.ttft) / np.maximum(tokens - 1.0, 1.0) / log.tpot_slo - 1.0, -1.0)
    return np.where(np.isnan(log.ttft), unseen, np.maximum(np.maximum(whole, np.nan_to_num(log.ttft) / log.ttft_slo - 1.0), each))


def _tables(backend: Backend) -> Floats:
    profile = backend.profile
    effect = profile.budget_effect
    return np.array([[table[task] for task in TASKS] for table in (profile.quality, effect.kept_when_concise, effect.kept_when_cut)])
