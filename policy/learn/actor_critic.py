"""The network of `policy.network` in torch, and its way out: weights as plain arrays. What it computes is proven equal by a test."""

import numpy as np
import torch
from torch import Tensor, nn

from bestserve.policy.network import SHAPES, Network

__all__ = ["ActorCritic"]


class ActorCritic(nn.Module):
    """Rows (P, A, N_ROW), context (P, N_CONTEXT) and allowed (P, A) -> (P, A, 2).

    The actor's part of each logit, and what the critic adds to the predicted worth.
    """

    def __init__(self, start: Network | None = None, *, seed: int = 0) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(seed)
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(_first(name, shape, made, start)))

    def forward(self, rows: Tensor, context: Tensor, allowed: Tensor) -> Tensor:
        """See `policy.network.forward`."""
        w = dict(self.named_parameters())
        hidden = torch.relu(rows @ w["w1"] + (context @ w["wc"] + w["b1"])[:, None])
        pooled = (allowed[:, :, None] * hidden).sum(1) / allowed.sum(1, keepdim=True)
        hidden = torch.relu(hidden @ w["w2"] + (pooled @ w["wp"] + w["b2"])[:, None])
        out: Tensor = hidden @ w["w3"] + w["b3"]
        return out

    def weights(self) -> Network:
        """As arrays."""
        return Network(**{name: value.detach().numpy().astype(np.float64) for name, value in self.named_parameters()})


def _first(name: str, shape: tuple[int, ...], made: torch.Generator, start: Network | None) -> Tensor:
    """Of a network that goes on; or, of a new one, a last layer of zeros, so that the policy begins as its prior."""
    if start is not None:
        return torch.tensor(getattr(start, name), dtype=torch.float32)
    if name.startswith("b") or name == "w3":
        return torch.zeros(shape)
    drawn: Tensor = torch.randn(shape, generator=made) * (2.0 / shape[0]) ** 0.5
    return drawn
