"""Checkpoints whose doings one knows."""

import numpy as np

from bestserve.policy.calibration import Corrected
from bestserve.policy.checkpoint import Checkpoint, to_bytes
from bestserve.policy.facts import TASKS
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught

RANGE = np.zeros(N_ROW + N_CONTEXT)


def sound(seed: int = 0, price_factor: float = 0.7) -> bytes:
    """The best heuristic, as a network of zeros is. Each seed has bytes of its own."""
    return to_bytes(Checkpoint(untaught(), (0.0, price_factor, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {"seed": seed}))


def doubts(seed: int = 0) -> bytes:
    """It believes that backend `a`, whose profile is `fast`, is half as good as that says."""
    calibration = {"a": Corrected("fast", quality=dict.fromkeys(TASKS, 0.25))}
    return to_bytes(Checkpoint(untaught(), (0.0, 0.7, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {"seed": seed}, calibration=calibration))


def sheds(seed: int = 0) -> bytes:
    """Poison: whatever is asked, nobody shall answer, not even where everybody is idle."""
    network = untaught()
    for weights in (network.w1, network.w2):
        weights[0, 0] = 1.0  # of "asks": 1 for every action but Shed
    network.w3[0, 0] = -1e6
    return to_bytes(Checkpoint(network, (0.0, 0.7, 0.0, 1.0, 0.5, 5.0), RANGE, RANGE, {"seed": seed}))


def breaks(seed: int = 0) -> bytes:
    """Weights that are finite, and whose products are not."""
    network = untaught()
    network = network._replace(b2=np.ones_like(network.b2), w3=np.full_like(network.w3, 3e38))
    return to_bytes(Checkpoint(network, (0.05, 0.7, 0.0, 1.0, 0.5, 1e300), RANGE, RANGE, {"seed": seed}))


def narrow(seed: int = 0) -> bytes:
    """It has only seen a fleet of a thousand backends."""
    low, high = np.full(N_ROW + N_CONTEXT, -50.0), np.full(N_ROW + N_CONTEXT, 50.0)
    low[N_ROW + 2], high[N_ROW + 2] = 2.2, 2.4  # "backends"
    return to_bytes(Checkpoint(untaught(), (0.0, 0.7, 0.0, 1.0, 0.5, 5.0), low, high, {"seed": seed}))
