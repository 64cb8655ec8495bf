"""The critic: what a request will be worth itself under each action, learnt from what became of it.

It learns the difference to what the encoder predicts (quality times the probability of being on time): where profiles are wrong, reports
late or queues longer than they look, paces and loads show it, and the difference has a pattern.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bestserve.policy.facts import Floats
from bestserve.policy.inputs import ROW
from bestserve.policy.network import Network

from .actor_critic import ActorCritic
from .outcomes import Outcomes

CRITIC = 1
"""The network's second output."""

HELD_OUT = 0.1
"""Share of the decisions, the last ones, that are not learnt from."""


@dataclass(frozen=True, slots=True)
class CriticArgs:
    """How it is fitted."""

    epochs: int = 4
    batch: int = 512
    lr: float = 4e-3
    decay: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is told of an epoch: mean squared errors of the held-out decisions."""

    number: int
    error: float
    error_predicted: float  # of the encoder's own prediction


def fit(outcomes: Outcomes, args: CriticArgs, told: Callable[[Epoch], None], start: Network | None = None) -> Network:
    """Fit the critic, from fresh weights or from others. Decisions that asked nobody say nothing."""
    torch.manual_seed(args.seed)
    model, data = ActorCritic(start, seed=args.seed), _Data(outcomes)
    n = len(data.own) - max(round(HELD_OUT * len(data.own)), 1)
    steps = args.epochs * -(-n // args.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=steps + 1)
    for number in range(args.epochs):
        for chosen in torch.split(torch.randperm(n), args.batch):
            optimiser.zero_grad()
            data.errors(model, chosen).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            held = torch.arange(n, len(data.own))
            error = torch.cat([data.errors(model, part) for part in torch.split(held, 4096)]).mean()
        told(Epoch(number, float(error), float(((data.worth - data.own)[n:] ** 2).mean())))
    return model.weights()


class _Data:
    """Outcomes as tensors; `worth` and `own` (P,) are of the action that was taken."""

    def __init__(self, outcomes: Outcomes) -> None:
        sent = np.flatnonzero(outcomes.sent & (outcomes.action < outcomes.rows.shape[1]))
        self.rows, self.context, self.allowed = (torch.tensor(_floats(part[sent])) for part in outcomes[:3])
        self.action, self.own = torch.tensor(outcomes.action[sent]), torch.tensor(_floats(outcomes.own[sent]))
        self.worth = self._taken(self.rows[:, :, ROW.index("worth")], self.action)

    def errors(self, model: ActorCritic, chosen: Tensor) -> Tensor:
        """Squared errors of some decisions."""
        said = model(self.rows[chosen], self.context[chosen], self.allowed[chosen])[:, :, CRITIC]
        off: Tensor = self.worth[chosen] + self._taken(said, self.action[chosen]) - self.own[chosen]
        return off**2

    @staticmethod
    def _taken(values: Tensor, action: Tensor) -> Tensor:
        return values.gather(1, action[:, None])[:, 0]


def _floats(values: Floats) -> Floats:
    single: Floats = np.asarray(values, dtype=np.float32)
    return single
