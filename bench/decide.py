"""What one live decision takes: encode, score, choose. One thread, no server, hot: `python bench/decide.py [--rounds N]`.

The actor is an untaught network of the usual size, which thinks as long as a taught one. Each by plain Python, and by compiled code for
what is compiled. Percentiles are over decisions; of each the quietest round counts.
"""

import time
from unittest import mock

import click
import numpy as np

from bestserve import profiles
from bestserve.policy import encode
from bestserve.policy.actor import Actor
from bestserve.policy.checkpoint import Checkpoint
from bestserve.policy.decide import Chooser, actions_of, decide
from bestserve.policy.facts import SLO, TASKS, Ask, Backend, Budget, Length
from bestserve.policy.fleet import Fleet
from bestserve.policy.heuristics import RULES
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import untaught

NAMES = ("qwen3-1.7b-h100", "qwen3-8b-h100", "qwen3-32b-h100")
BUDGETS = (Budget(), Budget(1024), Budget(384), Budget(128))
BLANK = np.zeros(N_ROW + N_CONTEXT)


@click.command()
@click.option("--rounds", default=15)
@click.option("--decisions", default=500)
def main(rounds: int, decisions: int) -> None:
    """Print a line for each size of fleet and policy."""
    for n in (3, 16):
        backends = tuple(Backend(f"b{i}", "m", profiles.load(NAMES[i % 3])) for i in range(n))
        for name in ("deadline-greedy", "bid-price", "actor"):
            for how, quick in (("plain", None), ("compiled", encode.quick)):
                policy = RULES.get(name) or _actor(compiled=quick is not None)
                chooser = Chooser(name, policy, actions_of(backends, BUDGETS), BUDGETS)
                with mock.patch.object(encode, "quick", quick):
                    p50, p99 = np.percentile(measured(backends, chooser, rounds, decisions), (50, 99))
                click.echo(f"{n:2} backends x {len(BUDGETS)} budgets  {name:15} {how:8} p50 {p50:6.1f} us  p99 {p99:6.1f} us")


def measured(backends: tuple[Backend, ...], chooser: Chooser, rounds: int, decisions: int) -> list[float]:
    """Microseconds of each decision, the least of its rounds."""
    fleet, dice = Fleet(backends), np.random.default_rng(0)
    asks = [_ask(dice, fleet.names) for _ in range(decisions)]
    best = [float("inf")] * decisions
    for _ in range(rounds):
        for i, ask in enumerate(asks):
            view = fleet.view(float(i))
            begun = time.perf_counter()
            decide(ask, view, chooser, draw=0.5, id="d")
            best[i] = min(best[i], 1e6 * (time.perf_counter() - begun))
    return best


def _ask(dice: np.random.Generator, names: tuple[str, ...]) -> Ask:
    return Ask(
        endpoint="chat",
        model="auto",
        allowed=frozenset(names),
        stream=True,
        prompt_tokens=int(dice.integers(10, 3000)),
        max_tokens=None,
        n=1,
        needs=frozenset(),
        task=tuple(dice.dirichlet(np.ones(len(TASKS))).tolist()),
        length=Length(float(dice.integers(20, 600)), 0.9),
        slo=SLO(),
        tier="default",
        weight=1.0,
    )


def _actor(*, compiled: bool = True) -> Actor:
    return Actor(Checkpoint(untaught(), (0.05, 0.7, 0.0, 1.0, 0.5, 5.0), BLANK, BLANK, {}), compiled=compiled)


if __name__ == "__main__":
    main()
